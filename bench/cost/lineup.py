"""`lineup`: everything that a run of `python bench/latency.py` compares, with what it costs."""

from __future__ import annotations

from fgmclip.bench.cost.competitor import Competitor
from fgmclip.bench.cost.peers.ablations import ablation_recipes
from fgmclip.bench.cost.peers.fgm import own_recipes
from fgmclip.bench.cost.peers.graphs import Report, make_graphs
from fgmclip.bench.cost.peers.others import other_recipes
from fgmclip.bench.cost.plan import Plan


def lineup(plan: Plan, report: Report = lambda what: None) -> list[Competitor]:
    """Return the competitors of a plan: in a quick run those that are exported in seconds.

    A competitor that is named in `only` takes part in a quick run as well. What cannot be exported
    or run here is in the list too; its entry says why.

    Args:
        plan: What is measured.
        report: Called with the name of each graph that has to be made first.
    """
    recipes = [
        recipe
        for recipe in (*own_recipes(plan), *ablation_recipes(plan), *other_recipes(plan))
        if plan.wants(recipe.entry.key) and (recipe.quick or plan.only or not plan.quick)
    ]
    graphs = make_graphs(
        (definition for recipe in recipes for definition in recipe.definitions), plan.cache, report
    )
    return [recipe.competitor(graphs) for recipe in recipes]
