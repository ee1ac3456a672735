"use strict";
(() => {
  // Sorts a table by a column; a second click turns the order around, and empty cells stay last.
  function sort(table, column, head) {
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const direction = descending ? -1 : 1;
    const rows = [...table.tBodies[0].rows].map((row) => {
      const cell = row.cells[column];
      const isNumber = "value" in cell.dataset;
      const text = isNumber ? cell.dataset.value : cell.textContent.trim();
      return { row, empty: text === "" || text === "-", text, value: isNumber ? Number(text) : null };
    });
    rows.sort((a, b) => {
      if (a.empty || b.empty) return a.empty - b.empty;
      if (a.value !== null && b.value !== null) return direction * (a.value - b.value);
      return direction * a.text.localeCompare(b.text, "en", { numeric: true });
    });
    table.tBodies[0].append(...rows.map((each) => each.row));
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => sort(table, column, head));
    });
  }

  // Hides the rows that lack a word; a word in quotation marks has to be a whole cell.
  function filter(block) {
    const words = block.querySelector("input").value.match(/"[^"]*"|[^,"]+/g) || [];
    const wanted = words.map((word) => word.trim().toLowerCase()).filter((word) => word !== "");
    const rows = [...block.querySelector("table").tBodies[0].rows];
    let shown = 0;
    for (const row of rows) {
      const cells = [...row.cells].map((cell) => cell.textContent.toLowerCase());
      const matches = (word) =>
        word.length > 1 && word.startsWith('"') && word.endsWith('"')
          ? cells.includes(word.slice(1, -1))
          : cells.some((cell) => cell.includes(word));
      row.hidden = !wanted.every(matches);
      shown += row.hidden ? 0 : 1;
    }
    block.querySelector("output").value = `${shown} of ${rows.length} rows`;
  }

  for (const block of document.querySelectorAll(".filterable")) {
    block.querySelector("input").addEventListener("input", () => filter(block));
  }

  // Shows the runs of a cell in the table of runs.
  function showRuns(cell, tasks) {
    const list = document.getElementById("run-list");
    const input = document.getElementById("filter-runs");
    const names = [cell.line, cell.model, ...(tasks.includes(cell.view) ? [cell.view] : [])];
    input.value = names.map((name) => `"${name}"`).join(", ");
    list.open = true;
    filter(list.querySelector(".filterable"));
    list.scrollIntoView();
  }

  const choice = document.getElementById("view");
  const tasks = choice ? [...choice.options].slice(1).map((option) => option.value) : [];
  const actions = { export: true, source: false, compiled: false, editor: false };
  const options = { mode: "vega-lite", renderer: "svg", actions };
  const charts = [...document.querySelectorAll("figure")].map(async (figure) => {
    const place = figure.querySelector(".chart");
    const picture = place.firstElementChild;
    const chart = document.createElement("div");
    const spec = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
    try {
      const { view } = await window.vegaEmbed(chart, spec, options);
      picture.replaceWith(chart);
      view.addEventListener("click", (event, item) => {
        if (item && item.datum && item.datum.line) showRuns(item.datum, tasks);
      });
      return view;
    } catch (error) {
      console.error(error); // the picture stays
      return null;
    }
  });

  Promise.all(charts).then((views) => {
    const drawn = views.filter((view) => view !== null);
    if (choice) {
      const show = () => drawn.forEach((view) => view.signal("view", choice.value).runAsync());
      choice.addEventListener("change", show);
      show(); // a browser may have kept the choice of an earlier visit
    }
    document.documentElement.dataset.charts = String(drawn.length);
  });
})();
