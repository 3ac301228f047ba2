"""Summaries into one: a tree of tasks, and large tables of clusters by shares of the labels.

Where tables are large, no worker should merge all of them: each is cut into as many shares as there are workers, by its
labels, and a worker merges and finishes one share.
"""

import uuid

import numpy as np
from dask._task_spec import Task, TaskRef

from daskglm_rep import placement, workers
from daskglm_rep.graphs import Packed
from daskglm_rep.summaries import joined
from daskglm_rep.telling import ReadWarning, tell

SPLIT_EVERY = 8
LARGE = 2 ** 23          # bytes of tables from which shares pay for their tasks


def fresh_name(what):
    """A name that no other graph has; dask's dashboard groups tasks by what stands before the token."""
    return f"{what}-{uuid.uuid4().hex}"


class Noted:
    """A summary with what tasks have to tell."""

    def __init__(self, summary, notes):
        self.summary, self.notes = summary, notes


def merge_all(summaries, owned=False):
    """Merge a sequence of summaries from the left; notes go along.

    Parameters
    ----------
    owned : bool
        Whether the first one is the caller's own: a large one then `absorb`s the others in place.
    """
    total, notes = None, []
    for summary in summaries:
        if isinstance(summary, Noted):
            notes += summary.notes
            summary = summary.summary
        summary = summary.value if isinstance(summary, Packed) else summary
        if total is None:
            total = summary
            continue
        total, owned = total.absorb(summary) if owned and hasattr(total, "absorb") else total.merge(summary), True
    return Noted(total, notes) if notes else total


def told(total):
    """The summary alone, once its notes were told."""
    total = merge_all([total])
    if not isinstance(total, Noted):
        return total
    tell(f"{len(total.notes)} reads failed and were repeated: {'; '.join(total.notes[:3])}.", ReadWarning)
    return total.summary


def sent(total):
    """A summary with an array or more a block as one string of bytes, where it is sent: frames cost more than bytes."""
    if isinstance(total, Noted):
        return Noted(sent(total.summary), total.notes)
    many = isinstance(total, (placement.Sorted, placement.Runs)) or hasattr(total, "in_order")
    return Packed(joined(total)) if many else joined(total)


def merge_tree(layer, level, name, finish=None):
    """Add to a layer of tasks the tree that merges some keys, in their order; returns the key of its root."""
    depth = 0
    while len(level) > 1:
        groups = [level[i:i + SPLIT_EVERY] for i in range(0, len(level), SPLIT_EVERY)]
        level = [(name, depth, i) for i in range(len(groups))]
        layer.update({key: Task(key, _merge, *map(TaskRef, group)) for key, group in zip(level, groups)})
        depth += 1
    if finish is None:
        return level[0]
    layer[name, depth, 0] = Task((name, depth, 0), finished, finish, TaskRef(level[0]))
    return name, depth, 0


def _merge(*summaries):
    return sent(merge_all(summaries))


def finished(finish, total):
    """What `finish` makes of a merged summary; its notes go along."""
    return Noted(finish(total.summary), total.notes) if isinstance(total, Noted) else finish(total)


def merged_by_shares(client, graph_of, layer, name, finish, futures):
    """Merge and finish summaries on a cluster: where they are large, each worker its share of the clusters.

    Parameters
    ----------
    graph_of : callable
        Of a layer of tasks to the graph that computes them.
    layer : dict of key to task
        Those that make the summaries.
    finish : callable
        Of a summary; `finish.adds_up(summary)` says whether what it makes of shares merges to what it makes of all.
    futures : collection of Future
        Rows that the graph needs.

    Returns
    -------
    What `finish` makes of the merged summary.
    """
    tables = list(layer)
    looks = [(name, "look", i) for i in range(len(tables))]
    layer = layer | {key: Task(key, _look, finish, TaskRef(table)) for key, table in zip(looks, tables)}
    with workers.held(client, graph_of(layer), tables + looks, futures) as held:
        found, places = client.gather(held[len(tables):]), workers.holders(client, held[:len(tables)])
        n = min(len(places), SPLIT_EVERY)
        layer, pins, ends = {}, {}, []
        if n < 2 or None in found or sum(size for size, _ in found) < LARGE:
            ends.append(merge_tree(layer, tables, name, finish))
        else:
            edges = _edges([sample for _, sample in found], n)
            for i, worker in enumerate(places[:n]):
                ends.append(_share_tasks(layer, pins, tables, f"{name}-{i}", edges[i:i + 2], finish, worker))
        return merge_all(workers.compute(client, placement.pinned(name, layer, pins), ends, futures))


def _look(finish, total):
    """Bytes of a summary and a sample of its labels, where shares of them may be finished apart; else None."""
    total = total.summary if isinstance(total, Noted) else total
    sample = total.sample() if finish.adds_up(total) else None
    return None if sample is None else (total.__sizeof__(), sample)


def _edges(samples, n):
    """n + 1 labels that cut all labels into n shares of about as many."""
    labels = np.sort(np.concatenate(samples))
    return [-2 ** 63, *(int(labels[i * labels.size // n]) for i in range(1, n)), 2 ** 63]


def _share_tasks(layer, pins, tables, name, ends, finish, worker):
    """Add the tasks of one share to a layer: cut out of each table, merged and finished on a worker."""
    cut = [(name, "cut", i) for i in range(len(tables))]
    merges = {}
    last = merge_tree(merges, cut, name, finish)
    pins.update(dict.fromkeys(merges, [worker]))
    layer.update(merges | {key: Task(key, _between, TaskRef(table), *ends) for key, table in zip(cut, tables)})
    return last


def _between(total, low, high):
    if isinstance(total, Noted):
        return Noted(total.summary.between(low, high), total.notes if low <= -2 ** 63 else [])
    return total.between(low, high)
