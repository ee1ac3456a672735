"""Prompt tuning with PEFT on transformers and PyTorch, as a user would write it, to be timed.

The program needs torch, transformers and peft and nothing of spjax. It reads jobs from stdin, one
JSON object a line, and answers each with a line of JSON until stdin ends; between jobs it keeps
the model, so that two such programs can take turns. `Peer` is its client and needs no torch.

What a job says (`do` and the fields it needs; the others have defaults):

    do              train | memory | generate | run | save
    model           numbers of `spjax.models.sizes.T5Config`: vocab_size, emb_dim, ... (T5 1.1)
    folder          instead: a model saved by transformers; `save` writes one there
    prompt_length   soft tokens, as PEFT's `num_virtual_tokens`
    examples        path of a file of `lengths.save`; its examples are taken in order
    batch_size      examples a step; inputs are padded to the longest of the batch
    steps           of a round (`train`, `memory`) or of the whole training (`run`)
    warmup, rounds  steps before the clock starts, and timed rounds over the same batches
    dtype           float32 | bfloat16, of the frozen model; the prompt stays in float32
    threads         of PyTorch
    compile         torch.compile of the model (`train`, `run`)
    max_new_tokens  of greedy `generate`
    validation, eval_every, eval_batch_size    (`run`) examples, and after how many steps

`memory` belongs in a fresh program: what earlier jobs left in the allocator hides the peak.
Linux only (/proc).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Job = Mapping[str, Any]
LEARNING_RATE = 0.03  # of PEFT's example of prompt tuning a T5


def hf_config(model: Job) -> Any:
    """The transformers configuration of a T5 1.1 shape, dropout off."""
    from transformers import T5Config

    return T5Config(
        vocab_size=model["vocab_size"],
        d_model=model["emb_dim"],
        d_kv=model["head_dim"],
        d_ff=model["mlp_dim"],
        num_heads=model["num_heads"],
        num_layers=model["num_encoder_layers"],
        num_decoder_layers=model["num_decoder_layers"],
        relative_attention_num_buckets=32,
        relative_attention_max_distance=128,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        dropout_rate=0.0,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
    )


@functools.lru_cache(maxsize=2)  # both dtypes, which take turns
def _build(source: str, prompt_length: int, dtype: str, compiled: bool) -> Any:
    """The model with a random prompt and its optimizer; kept until two others are asked for."""
    import peft
    import torch
    import transformers

    torch.manual_seed(0)
    kind = transformers.T5ForConditionalGeneration
    if source.startswith("{"):
        base = kind(hf_config(json.loads(source))).to(getattr(torch, dtype))
    else:
        base = kind.from_pretrained(source, dtype=getattr(torch, dtype))
    prompt = peft.PromptTuningConfig(
        task_type=peft.TaskType.SEQ_2_SEQ_LM,
        num_transformer_submodules=1,
        num_virtual_tokens=prompt_length,
        prompt_tuning_init="RANDOM",
    )
    model = peft.get_peft_model(base, prompt)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    forward = torch.compile(model, dynamic=True) if compiled else model
    return model, forward, torch.optim.AdamW(trained, lr=LEARNING_RATE)


def _setup(job: Job) -> Any:
    import torch

    torch.set_num_threads(job.get("threads", 2))
    source = job["folder"] if "folder" in job else json.dumps(job["model"])
    compiled = job.get("compile", False)
    return _build(source, job["prompt_length"], job.get("dtype", "float32"), compiled)


def read(path: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Inputs and targets of each example of a file of `lengths.save`."""
    with np.load(path) as file:
        inputs, targets = (
            np.split(file[f"{kind}_values"], file[f"{kind}_offsets"][1:-1])
            for kind in ("inputs", "targets")
        )
    return list(zip(inputs, targets))


def collate(examples: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """A batch padded to its longest input and target: ids, mask, labels (-100 at padding)."""
    import torch

    def pad(rows: list[np.ndarray], value: int) -> Any:
        rows = [torch.from_numpy(row).long() for row in rows]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)

    inputs = pad([x for x, _ in examples], 0)
    labels = pad([y for _, y in examples], -100)
    return {"input_ids": inputs, "attention_mask": (inputs != 0).long(), "labels": labels}


def _chunks(examples: list[Any], size: int) -> Iterator[list[Any]]:
    return (examples[i : i + size] for i in range(0, len(examples), size))


def _step(forward: Any, optimizer: Any, batch: dict[str, Any]) -> float:
    optimizer.zero_grad()
    loss = forward(**batch).loss
    loss.backward()
    optimizer.step()
    return loss.item()


def train(job: Job) -> dict[str, Any]:
    """Seconds of each round of training steps, the batches' padding included."""
    model, forward, optimizer = _setup(job)
    model.train()
    chunks = list(_chunks(read(job["examples"]), job["batch_size"]))[: job["steps"]]
    for chunk in chunks[: job.get("warmup", 1)]:
        _step(forward, optimizer, collate(chunk))
    seconds = []
    for _ in range(job.get("rounds", 1)):
        start = time.perf_counter()
        losses = [_step(forward, optimizer, collate(chunk)) for chunk in chunks]
        seconds.append(time.perf_counter() - start)
    lengths = [[len(x) for x, _ in chunk] for chunk in chunks]
    return {
        "seconds": seconds,
        "examples": sum(map(len, chunks)),
        "real_tokens": sum(map(sum, lengths)),
        "computed_tokens": sum(max(row) * len(row) for row in lengths),
        "losses": losses,
    }


def status(field: str) -> int:
    """Bytes that the kernel reports for this process, such as `VmHWM` (proc(5))."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise OSError(f"/proc/self/status has no {field}")


def reset_peak() -> int:
    """Lets the peak of resident memory, `VmHWM`, begin anew; returns the bytes resident now."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # proc(5)
    return before


def memory(job: Job) -> dict[str, Any]:
    """Peak resident bytes of the first training steps, and what was resident before them."""
    model, forward, optimizer = _setup(job)
    model.train()
    chunks = list(_chunks(read(job["examples"]), job["batch_size"]))[: job["steps"]]
    before = reset_peak()
    for chunk in chunks:
        _step(forward, optimizer, collate(chunk))
    peak = status("VmHWM")
    return {"before": before, "peak": peak, "step": peak - before}


def _generate(
    model: Any, examples: list[Any], size: int, new: int, least: int = 0
) -> list[list[int]]:
    """Greedy output ids of each example, the decoder's start token first."""
    import torch

    model.eval()
    outputs = []
    with torch.no_grad():
        for chunk in _chunks(examples, size):
            batch = collate(chunk)
            batch.pop("labels")
            generated = model.generate(
                **batch, min_new_tokens=least, max_new_tokens=new, do_sample=False, num_beams=1
            )
            outputs.extend(generated.tolist())
    return outputs


def generate(job: Job) -> dict[str, Any]:
    """Seconds of each round of greedy decoding over all examples, and the most tokens decoded.

    Random weights may end a text at once; here none ends before it is full.
    """
    model, *_ = _setup(job)
    examples, size = read(job["examples"]), job["batch_size"]
    new = job["max_new_tokens"]
    _generate(model, examples[: size * job.get("warmup", 1)], size, new, new)
    seconds = []
    for _ in range(job.get("rounds", 1)):
        start = time.perf_counter()
        outputs = _generate(model, examples, size, new, new)
        seconds.append(time.perf_counter() - start)
    longest = max(map(len, outputs)) - 1
    return {"seconds": seconds, "examples": len(examples), "decoded": longest}


def run(job: Job) -> dict[str, Any]:
    """A user's script: load, train on shuffled examples, evaluate now and then."""
    import torch

    model, forward, optimizer = _setup(job)
    validation = read(job["validation"])
    loader = torch.utils.data.DataLoader(
        read(job["examples"]), job["batch_size"], shuffle=True, drop_last=True, collate_fn=collate
    )
    step, accuracies, start = 0, [], time.perf_counter()
    while step < job["steps"]:
        for batch in loader:
            model.train()
            _step(forward, optimizer, batch)
            step += 1
            if step % job["eval_every"] == 0 or step == job["steps"]:
                accuracies.append(_accuracy(model, validation, job))
            if step == job["steps"]:
                break
    return {"accuracies": accuracies, "loop_seconds": time.perf_counter() - start}


def _accuracy(model: Any, examples: list[Any], job: Job) -> float:
    size = job.get("eval_batch_size", job["batch_size"])
    outputs = _generate(model, examples, size, job["max_new_tokens"])
    right = [out[1 : 1 + len(y)] == y.tolist() for out, (_, y) in zip(outputs, examples)]
    return sum(right) / len(right)


def save(job: Job) -> dict[str, Any]:
    """Random weights of a shape, as transformers saves them."""
    import torch
    import transformers

    torch.manual_seed(0)
    transformers.T5ForConditionalGeneration(hf_config(job["model"])).save_pretrained(job["folder"])
    return {}


def versions() -> dict[str, str]:
    """Of the packages measured."""
    import peft
    import torch
    import transformers

    return {package.__name__: package.__version__ for package in (torch, transformers, peft)}


def serve() -> None:
    """Answers the jobs of stdin; whatever else is printed goes to stderr."""
    answers, sys.stdout = sys.stdout, sys.stderr
    jobs = {"train": train, "memory": memory, "generate": generate, "run": run, "save": save}
    for line in sys.stdin:
        try:
            job = json.loads(line)
            answer = jobs[job["do"]](job) | {"versions": versions()}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


class Peer:
    """This program in another interpreter, one that has torch; use as a context manager."""

    def __init__(self, python: str, env: Mapping[str, str] | None = None) -> None:
        """Starts the program; `env` is added to the environment."""
        environment = os.environ | {"HF_HUB_OFFLINE": "1"} | dict(env or {})
        command = [python, str(Path(__file__).resolve())]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment
        )

    def ask(self, job: Job) -> dict[str, Any]:
        """The answer to a job.

        Raises:
          RuntimeError: the job failed, with its traceback, or the program ended.
        """
        with contextlib.suppress(BrokenPipeError):  # told below
            print(json.dumps(dict(job)), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "the program ended; does it have numpy?"}
        if "error" in answer:
            raise RuntimeError(f"PEFT's side of {job.get('do')!r} failed: {answer['error']}")
        return answer

    def close(self) -> None:
        """Ends the program."""
        with contextlib.suppress(BrokenPipeError):  # a job that it never read
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, failure: object, *_: object) -> None:
        if failure:  # perhaps in the middle of a job
            self._process.kill()
        self.close()


if __name__ == "__main__":
    serve()
