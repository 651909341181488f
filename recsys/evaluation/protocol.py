"""Evaluation protocols: named presets, and the card printed beside every figure."""

from typing import Literal, get_args

from recsys.config import StrictModel
from recsys.data.dataset import DatasetManifest, SplitRule
from recsys.errors import ProtocolError

FitOn = Literal["train", "train+valid", "all"]
Part = Literal["valid", "test"]
_TOLD = (
    "known: models may read when the first held-out interaction was, as a server knows the time; "
    "not to be compared with figures of models that could not"
)


class Protocol(StrictModel):
    """The rules by which held-out interactions become figures."""

    name: str
    split: Literal["leave-last-out", "global-time", "given"]
    filter_seen: bool
    """Items of the history are taken out of the ranking."""
    request_time: bool = False
    """Models may know when the held-out item was taken, as a server knows what time it is."""
    reference: str
    k: int = 10
    """The cutoff that tables show, unless they are asked for others."""


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="s3rec",
            split="leave-last-out",
            filter_seen=True,
            reference="Zhou et al., S3-Rec, CIKM 2020; full ranking as in the eSASRec benchmark",
        ),
        Protocol(
            name="fmrlrec",
            split="leave-last-out",
            filter_seen=False,
            reference="Wang et al., fMRLRec, 2024",
        ),
        Protocol(
            name="gsasrec",
            split="leave-last-out",
            filter_seen=True,
            reference="Petrov and Macdonald, gSASRec, RecSys 2023",
        ),
        Protocol(
            name="hstu",
            split="leave-last-out",
            filter_seen=True,
            reference="Zhai et al., HSTU, ICML 2024",
        ),
        Protocol(
            name="global-time",
            split="global-time",
            filter_seen=True,
            reference="Hidasi and Czapp, Widespread flaws in offline evaluation, RecSys 2023",
        ),
        Protocol(
            name="lightgcn",
            split="given",
            filter_seen=True,
            reference="He et al., LightGCN, SIGIR 2020; their figures are of train+valid, at 20",
            k=20,
        ),
        Protocol(
            name="request-time",
            split="leave-last-out",
            filter_seen=True,
            request_time=True,
            reference="as s3rec, with the time of the request: Zhai et al., HSTU, ICML 2024",
        ),
        Protocol(
            name="global-time-request",
            split="global-time",
            filter_seen=True,
            request_time=True,
            reference="as global-time, with the time of the request",
        ),
    )
}


def find_protocol(name: str) -> Protocol:
    """The preset of that name.

    Raises:
        ProtocolError: there is none.
    """
    if name not in PROTOCOLS:
        raise ProtocolError(f"protocol {name!r} is not among {tuple(PROTOCOLS)}")
    return PROTOCOLS[name]


def check_time(reads: str, protocol: Protocol, what: str) -> None:
    """Refuses a model that reads the time of requests under a protocol that does not tell it.

    Args:
        reads: `reads_time` of the model's config.
        protocol: under which it is trained or measured.
        what: the model, for the message.

    Raises:
        ProtocolError: it would know more than the protocol lets models know.
    """
    if reads == "request" and not protocol.request_time:
        telling = [each.name for each in PROTOCOLS.values() if each.request_time]
        raise ProtocolError(
            f"{what} reads the time of the request, which protocol {protocol.name} does not tell; "
            f"choose one that does ({', '.join(telling)}), or train with model.time=history or none"
        )


class ProtocolCard(StrictModel):
    """The settings that two figures must share to be comparable."""

    protocol: str
    dataset: str
    content_hash: str
    filters: tuple[str, ...]
    tie_rule: str
    split: str
    part: Part
    fit_on: FitOn
    filter_seen: bool
    candidates: str = "full catalogue"
    history: str = "everything before the held-out part (the test sees the validation items)"
    request_time: str = "not told to models"
    """Whether models know when the held-out part begins."""
    score_ties: str = "an item scored equal to the target counts as ranked above it"
    unscorable: str = (
        "users without a history or without a target are left out; a target that is filtered "
        "as seen counts as a miss"
    )
    filtered_targets: str = ""
    """How many targets are filtered as seen, and what recall they leave; empty: not counted. It
    follows from the rest of the card."""
    untrained: str = ""
    """How many users and targets training has not seen; empty: none, or not counted. It follows
    from the rest of the card."""
    metrics: str = (
        "recall = found / targets; hit = any found; ndcg with binary gains and ideal DCG over "
        "min(k, targets); mrr = 1 / rank of the first found; map over min(k, targets); a user's "
        "targets are distinct items"
    )
    catalogue_metrics: str = (
        "coverage = share of the catalogue recommended to anyone; gini over how often each item "
        "of the catalogue is recommended; novelty = mean of -log2 p over the recommended, "
        "p = (training rows of the item + 1) / (training rows + items)"
    )
    segments: str = (
        "head = the fifth of the catalogue with most training rows, tail = the rest; cold = items "
        "without a training row, warm = the rest (global-time); only targets of the segment count"
    )
    baselines: str = (
        "the settings in a baseline's name were given, or chosen by ndcg@10 on the validation part "
        "with the baseline fitted on train (of many users, on some that are evenly spread), or "
        "they are the default's where `recsys evaluate` said so"
    )
    intervals: str = "95 % percentile bootstrap over users, 1,000 resamples"

    def differences(self, other: "ProtocolCard") -> list[str]:
        """One line for each field in which the two cards differ."""
        mine, theirs = self.model_dump(), other.model_dump()
        return [
            f"{key}: {mine[key]!r} against {theirs[key]!r}"
            for key in mine
            if mine[key] != theirs[key] and key not in ("filtered_targets", "untrained")
        ]


def make_card(
    manifest: DatasetManifest,
    protocol: Protocol,
    part: Part,
    fit_on: FitOn,
    rule: SplitRule,
) -> ProtocolCard:
    """The card of an evaluation.

    Raises:
        ProtocolError: there is no such part, or the split rule is not the protocol's.
    """
    if part not in get_args(Part):
        raise ProtocolError(f"part {part!r} is not among {get_args(Part)}")
    if rule.name != protocol.split:
        raise ProtocolError(
            f"protocol {protocol.name} needs the split {protocol.split}, the run was trained on "
            f"{rule.name}; choose another protocol or train with protocol={protocol.name}"
        )
    return ProtocolCard(
        protocol=protocol.name,
        dataset=manifest.name,
        content_hash=manifest.content_hash,
        filters=manifest.filters,
        tie_rule=manifest.tie_rule,
        split=rule.describe(),
        part=part,
        fit_on=fit_on,
        filter_seen=protocol.filter_seen,
        **({"request_time": _TOLD} if protocol.request_time else {}),
    )
