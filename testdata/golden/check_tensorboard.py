"""Opens a Broadside run in TensorBoard and holds what it shows to the run's own files.

  python3 check_tensorboard.py RUN

Starts TensorBoard twice, with each of its two readers of event files, and asks it over HTTP as its page does. Every
curve's steps must rise, so that no update of a resumed run is shown twice; the curves of the updates, epochs, probes and
growths must be those of events.jsonl; the text must be recipe.yaml, and the hyperparameters its keys. Prints what it compared, and
exits with 1 at the first difference. Needs the Python package tensorboard (tried: 2.21).
"""

import argparse
import json
import pathlib
import sys
import time
import urllib.parse
import urllib.request

from tensorboard import program

FLOAT32 = 1e-6  # relative error of a float32
EPOCH_TAGS = {
    "epoch/epoch": "epoch", "loss/train": "train_loss", "loss/test": "test_loss", "accuracy/train": "train_accuracy",
    "accuracy/test": "test_accuracy", "epoch/batch": "batch", "epoch/learning_rate": "lr", "epoch/eigenvalue": "eigenvalue",
    "epoch/attack_fraction": "attack_fraction", "epoch/images_per_second": "images_per_second",
}
UPDATE_TAGS = {
    "update/loss": "loss", "update/learning_rate": "lr", "update/batch": "batch", "update/images_per_second": "images_per_second",
    "update/gradient_norm": "gradient_norm",
}
EVENT_TAGS = {"probe/eigenvalue": ("probe", "eigenvalue"), "growth/batch": ("growth", "to"), "growth/lr_scale": ("rate", "lr_scale")}


def expect(condition, message):
    if not condition:
        sys.exit(f"check_tensorboard: {message}")


class Page:
    """TensorBoard over HTTP."""

    def __init__(self, folder, fast):
        board = program.TensorBoard()
        board.configure(argv=["", "--logdir", str(folder), "--port", "0", "--load_fast", "true" if fast else "false",
                              "--samples_per_plugin", "scalars=10000000"])
        self.url = board.launch()

    def get(self, path, body=None, **query):
        url = self.url + "data/" + path + ("?" + urllib.parse.urlencode(query) if query else "")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"} if data else {})
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)

    def wait(self, name):
        """The scalar tags of the run, when they are there and no longer change."""
        before = None
        for _ in range(120):
            tags = self.get("plugin/scalars/tags").get(name)
            if tags and tags == before:
                return sorted(tags)
            before = tags
            time.sleep(0.5)
        sys.exit(f"check_tensorboard: TensorBoard shows no run {name}")


def expected(events):
    """Curves by tag, as lists of (update, value), from the events."""
    curves = {}
    for e in events:
        points = []
        if e["type"] == "epoch":
            points = [(tag, e.get(key)) for tag, key in EPOCH_TAGS.items() if key in e]
            points += [("methods/" + key, value) for key, value in e.get("values", {}).items()]
        if e["type"] == "update":
            points = [(tag, e.get(key)) for tag, key in UPDATE_TAGS.items() if key in e]
        points += [(tag, e[key]) for tag, (kind, key) in EVENT_TAGS.items() if e["type"] == kind and key in e]
        if e["type"] == "phase":
            points.append(("phase/" + e["phase"], e["accuracy"]))
        for tag, value in points:
            curves.setdefault(tag, []).append((e["updates"], value))
    return curves


def close(a, b):
    return abs(a - b) <= FLOAT32 * max(abs(a), abs(b))


def check(run, fast):
    page = Page(run.parent, fast)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    tags, want = page.wait(run.name), expected(events)
    expect(set(want) == set(tags), f"curves {tags}; want {sorted(want)}")
    points = 0
    for tag in tags:
        curve = [(step, value) for _, step, value in page.get("plugin/scalars/scalars", run=run.name, tag=tag)]
        steps = [step for step, _ in curve]
        expect(steps == sorted(set(steps)), f"{tag}: the steps do not rise: {steps}")
        expect(steps == [step for step, _ in want[tag]], f"{tag}: at {steps}; want {want[tag]}")
        expect(all(close(a, b) for (_, a), (_, b) in zip(curve, want[tag])), f"{tag}: {curve}; want {want[tag]}")
        points += len(curve)
    text = page.get("plugin/text/text", run=run.name, tag="recipe")
    expect(len(text) == 1, f"{len(text)} texts; want the recipe alone")
    expect("optimizer" in text[0]["text"], "the recipe is not shown")
    groups = page.get("plugin/hparams/session_groups", {"startIndex": 0, "sliceSize": 1000, "colParams": [],
                      "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]})
    sessions = [s for g in groups["sessionGroups"] for s in g["sessions"] if s["name"] == run.name]
    expect(len(sessions) == 1, f"the page of hyperparameters has {len(sessions)} sessions of the run")
    group = next(g for g in groups["sessionGroups"] if sessions[0] in g["sessions"])
    summary = run / "summary.json"
    expect((sessions[0]["status"] == "STATUS_SUCCESS") == summary.exists(), f"status {sessions[0]['status']}")
    keys = group["hparams"]
    recipe = (run / "recipe.yaml").read_text()
    for key in ("optimizer.lr", "train.epochs", "batch.size", "model.name"):
        expect(key in keys and f"{key.split('.')[1]}: {keys[key]:g}" in recipe if isinstance(keys.get(key), float) else str(keys.get(key)) in recipe,
               f"hyperparameter {key} is {keys.get(key)}")
    reader = "the fast reader" if fast else "the Python reader"
    print(f"{reader}: {len(tags)} curves, {points} points, {len(keys)} hyperparameters, the recipe: as the run's files have them")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path)
    run = parser.parse_args().run.resolve()
    for fast in (True, False):
        check(run, fast)


if __name__ == "__main__":
    main()
