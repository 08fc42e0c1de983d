"""What a training is too short for."""

from __future__ import annotations

from pipeline.deep.plan import DeepPlan


def too_short(plan: DeepPlan) -> str | None:
    """What gets no turn in a deep training or that of a rival, in one line; None if everything does."""
    losses, asked = plan.losses, []
    if plan.rival is None:
        if (losses.relevance_warmup_rounds or 0) >= plan.rounds:
            asked.append(f"relevances (loss.relevance_warmup_rounds={losses.relevance_warmup_rounds})")
        waiting = losses.consistency_weight + losses.agreement_weight + losses.balance_weight
        if waiting > 0 and (losses.consistency_start or 0) >= plan.rounds:
            asked.append(f"consistency (loss.consistency_start={losses.consistency_start})")
    if asked:
        return (
            f"The training ends after {plan.rounds} rounds, before {' and '.join(asked)}: lower them, or train longer."
        )
    rising = plan.settings.rate_warmup_rounds
    if plan.rounds > rising or (plan.rival is not None and plan.rival.name == "kmeans"):
        return None
    return (
        f"The training has {plan.rounds} rounds only, and the learning rate rises for the first {rising} "
        "(deep.rate_warmup_rounds): give more --epochs, or rounds of fewer samples (map.batch_size)."
    )
