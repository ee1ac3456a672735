"""The graded world: invented words of Zipf-distributed frequency, and tasks that rest on them."""
