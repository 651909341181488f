"""Every option of a config moves weights or figures, is refused, or is listed with its reason."""

import hashlib
from types import NoneType
from typing import Literal, get_args, get_origin

import numpy as np
import polars as pl
import pytest
import yaml
from rich.console import Console

from recsys.config import StrictModel, apply_overrides
from recsys.data.dataset import Dataset
from recsys.data.features.manifest import FeatureOrigin
from recsys.data.features.writing import write_categories, write_numbers, write_vectors
from recsys.errors import ConfigError
from recsys.losses import LOSSES
from recsys.models import MODELS
from recsys.recipes.training import remarks
from recsys.recipes.training.train import train
from recsys.runs.config import RunConfig, read_config
from recsys.runs.records import load_config
from recsys.training.logs import read_lines

NUM_ITEMS = 60
BASE = {
    "threads": 1,
    "model": {
        "granularities": {"sizes": [4, 8]},
        "history_length": 6,
        "encoder": {"dropout": 0.1},
    },
    "loss": {"negatives": {"uniform": 10}},
    "batching": {"batch_tokens": 64},
    "trainer": {"epochs": 1, "optimizer": {"learning_rate": 0.02, "warmup_steps": 0}},
}
TOWERS = "model={name: two_tower, granularities: {sizes: [4, 8]}}"
PAPER = "model={name: fmrlrec, granularities: {sizes: [4, 8]}, features: [text]}"
MF = "model={name: mf, granularities: {sizes: [4, 8]}}"
LIGHT = "model={name: lightgcn, granularities: {sizes: [4, 8]}}"
LINEAR = "model={name: ltgnn, granularities: {sizes: [4, 8]}}"
ULTRA = "model={name: ultragcn, granularities: {sizes: [4, 8]}}"
SPECTRAL = "model={name: svd_gcn, granularities: {sizes: [4, 8]}, directions: 8}"
TELLING = "model={name: feature_towers, granularities: {sizes: [4, 8]}}"
PEOPLE = "model.columns={categories: [club], numbers: [age]}"
VIEWS = "model.views={items: 20}"
ELSA = "model={name: elsa, granularities: {sizes: [4, 8]}}"
IALS = "model={name: ials, granularities: {sizes: [4, 8], normalize: false}}"
LOW_PASS = "model={name: spectral, granularities: {sizes: [4, 8], normalize: false}}"
COUNTED = "model={name: micro, granularities: {sizes: [4, 8], normalize: false}}"
PAIRS = {
    "MFConfig": MF,
    "LightGCNConfig": LIGHT,
    "LTGNNConfig": LINEAR,
    "UltraGCNConfig": ULTRA,
    "SVDGCNConfig": SPECTRAL,
}
CONTENT = "model.items={features: [text, year]}"
LATER = "protocol=global-time"
GBCE, BPR, SOFTMAX = "loss.name=gbce", "loss.name=bpr", "loss={name: softmax}"
CCL, BCE = "loss.name=cosine_contrastive", "loss.name=constrained_bce"
TWO = "trainer.epochs=2"


def table(name, *options):
    return [f"model.table={{name: {name}}}", *(f"model.table.{option}" for option in options)]


HSTU = "model={name: hstu, granularities: {sizes: [4, 8]}, history_length: 6}"
FUXI = HSTU.replace("hstu", "fuxi")
COMIREC = HSTU.replace("hstu", "comirec")
BERT4REC = HSTU.replace("hstu", "bert4rec")
CAPSULES = COMIREC.replace("}, hi", "}, encoder: {kind: dynamic_routing}, hi")
ASKED = "protocol=request-time"
POINTWISE = (
    ("granularities", (), "model.granularities.sizes=[8]"),
    ("history_length", (), "model.history_length=3"),
    ("table", (), "model.table={name: hashed}"),
    ("items", (), CONTENT),
    ("init", (), "model.init=normal"),
    ("item_init_std", (), "model.item_init_std=0.1"),
    ("history_dropout", (), "model.history_dropout=0.5"),
    ("seen_negatives", (), "model.seen_negatives=true"),
    ("repeat_bias", (), "model.repeat_bias=true"),
    ("output_dropout", (), "model.output_dropout=0.3"),
    ("sparse_gradients", (), "model.sparse_gradients=true"),
    ("time", (), "model.time=none"),
    ("gap_vectors", (ASKED, "model.time=request"), "model.gap_vectors=true"),
    ("encoder", (), "model.encoder={num_layers: 1}"),
)
"""Options of HSTU and FuXi-alpha: name, what stands beside, the change."""


MOVES: dict[str, tuple[list[str], list[str]]] = {
    "RunConfig.protocol": ([], ["protocol=fmrlrec"]),
    "RunConfig.fit_on": ([], ["fit_on=train+valid"]),
    "RunConfig.split": ([LATER], ["split={name: global-time, test_quantile: 0.95}"]),
    "SplitRule.name": (
        [LATER, "split.name=global-time"], ["protocol=s3rec", "split.name=leave-last-out"],
    ),
    "SplitRule.valid_quantile": (
        [LATER, "split.name=global-time"], ["split.valid_quantile=0.6"],
    ),
    "SplitRule.test_quantile": (
        [LATER, "split.name=global-time", "fit_on=train+valid"], ["split.test_quantile=0.95"],
    ),
    "RunConfig.model": ([], [TOWERS]),
    "Granularities.sizes": ([], ["model.granularities.sizes=[2, 8]"]),
    "Granularities.weights": ([], ["model.granularities.weights=[1, 5]"]),
    "Granularities.normalize": ([], ["model.granularities.normalize=false"]),
    "Granularities.learned_scale": ([], ["model.granularities.learned_scale=false"]),
    "Granularities.initial_scale": ([], ["model.granularities.initial_scale=3"]),
    "Granularities.scale_grows": (
        ["model.granularities.initial_scale=1"], ["model.granularities.scale_grows=true"],
    ),
    "SASRecConfig.granularities": ([], ["model.granularities={sizes: [2, 4, 8]}"]),
    "SASRecConfig.encoder": ([], ["model.encoder={}"]),
    "TransformerConfig.num_layers": ([], ["model.encoder.num_layers=2"]),
    "TransformerConfig.num_heads": ([], ["model.encoder.num_heads=2"]),
    "TransformerConfig.hidden_ratio": ([], ["model.encoder.hidden_ratio=2"]),
    "TransformerConfig.dropout": ([], ["model.encoder.dropout=0.3"]),
    "TransformerConfig.attention_dropout": ([], ["model.encoder.attention_dropout=0.3"]),
    "TransformerConfig.distances": ([], ["model.encoder.distances=3"]),
    "TransformerConfig.layer": ([], ["model.encoder.layer=ligr"]),
    "TransformerConfig.bf16": ([], ["model.encoder.bf16=true"]),
    "TransformerConfig.nested": ([], ["model.encoder.nested=true"]),
    "TransformerConfig.nested_from": (
        ["model.encoder.nested=true"], ["model.encoder.nested_from=8"],
    ),
    "SASRecConfig.history_length": ([], ["model.history_length=3"]),
    "SASRecConfig.positions": ([], ["model.positions=from_start"]),
    "SASRecConfig.table": ([], table("hashed")),
    "ClusteredConfig.by": (
        table("clustered"), ["model.table.by=features", "model.table.feature=text"],
    ),
    "ClusteredConfig.feature": (
        table("clustered", "by=features", "feature=text"), ["model.table.feature=image"],
    ),
    "ClusteredConfig.share": (table("clustered"), ["model.table.share=0.5"]),
    "ClusteredConfig.hashed_share": (table("clustered"), ["model.table.hashed_share=0.2"]),
    "ClusteredConfig.seed": (
        table("clustered", "by=features", "feature=text"), ["model.table.seed=1"],
    ),
    "DynamicConfig.rows": (table("dynamic"), ["model.table.rows=5"]),
    "DynamicConfig.entries": (
        table("dynamic", "rows=5", "min_count=2"), ["model.table.entries=6"],
    ),
    "DynamicConfig.min_count": (table("dynamic"), ["model.table.min_count=4"]),
    "DynamicConfig.time_to_live": (
        table("dynamic", "rows=9"),
        ["model.table.time_to_live=1", "model.table.expire_every=1"],
    ),
    "DynamicConfig.expire_every": (
        table("dynamic", "rows=9", "time_to_live=1"), ["model.table.expire_every=1"],
    ),
    "HashedConfig.method": (table("hashed"), ["model.table.method=hash"]),
    "HashedConfig.share": (table("hashed"), ["model.table.share=0.5"]),
    "HashedConfig.num_hashes": (
        table("hashed", "method=bloom"), ["model.table.num_hashes=3"],
    ),
    "HashedConfig.seed": (table("hashed"), ["model.table.seed=1"]),
    "LowRankConfig.share": (table("low_rank", "share=0.3"), ["model.table.share=0.8"]),
    "MappedConfig.optimizer": (table("mapped"), ["model.table.optimizer=adagrad"]),
    "QuantizedConfig.method": (
        table("quantized", "share=0.9"), ["model.table.method=residual"],
    ),
    "QuantizedConfig.share": (table("quantized", "share=0.9"), ["model.table.share=0.31"]),
    "QuantizedConfig.max_codes": (
        table("quantized", "share=1", "method=residual"), ["model.table.max_codes=1"],
    ),
    "QuantizedConfig.commitment": (
        table("quantized", "share=0.9"), ["model.table.commitment=2"],
    ),
    "TensorTrainConfig.share": (
        table("tensor_train", "share=0.9"), ["model.table.share=0.5"],
    ),
    "TensorTrainConfig.max_rank": (
        table("tensor_train", "share=0.9"), ["model.table.max_rank=1"],
    ),
    "SparseConfig.kept": ([*table("sparse", "kept=2"), TWO], ["model.table.kept=4"]),
    "SparseConfig.start": ([*table("sparse", "kept=2"), TWO], ["model.table.start=0.3"]),
    "SparseConfig.ramp": ([*table("sparse", "kept=2"), TWO], ["model.table.ramp=0.2"]),
    "WidthsConfig.share": (table("widths", "share=0.5"), ["model.table.share=0.9"]),
    "WidthsConfig.start": (
        [*table("widths", "share=0.5", "every=1"), TWO], ["model.table.start=0.3"],
    ),
    "WidthsConfig.ramp": (
        [*table("widths", "share=0.5", "every=1"), TWO], ["model.table.ramp=0.2"],
    ),
    "WidthsConfig.every": (
        [*table("widths", "share=0.5", "every=1"), TWO], ["model.table.every=3"],
    ),
    "SASRecConfig.items": ([], [CONTENT]),
    "ItemsConfig.features": ([CONTENT], ["model.items.features=[text, genres]"]),
    "ItemsConfig.ids": ([CONTENT], ["model.items.ids=false"]),
    "ItemsConfig.fusion": ([CONTENT], ["model.items.fusion=projection"]),
    "ItemsConfig.modality_dropout": ([CONTENT], ["model.items.modality_dropout=0.5"]),
    "ItemsConfig.id_dropout": ([CONTENT], ["model.items.id_dropout=0.5"]),
    "ItemsConfig.components": ([CONTENT], ["model.items.components=2"]),
    "ItemsConfig.whitening": ([CONTENT], ["model.items.whitening=0"]),
    "ItemsConfig.bins": ([CONTENT], ["model.items.bins=3"]),
    "SASRecConfig.init": ([], ["model.init=normal"]),
    "SASRecConfig.item_init_std": ([], ["model.item_init_std=0.1"]),
    "SASRecConfig.input_norm": ([], ["model.input_norm=false"]),
    "SASRecConfig.history_mean": ([], ["model.history_mean=1"]),
    "SASRecConfig.history_dropout": ([], ["model.history_dropout=0.5"]),
    "SASRecConfig.seen_negatives": ([], ["model.seen_negatives=true"]),
    "SASRecConfig.repeat_bias": ([], ["model.repeat_bias=true"]),
    "SASRecConfig.output_dropout": ([], ["model.output_dropout=0.3"]),
    "SASRecConfig.sparse_gradients": ([], ["model.sparse_gradients=true"]),
    "SASRecConfig.time": ([], ["model.time=history"]),
    "SASRecConfig.gap_vectors": (
        [ASKED, "model.time=request"], ["model.gap_vectors=false"],
    ),
    **{
        f"{config}.{name}": ([base, *beside], [changed])
        for config, base in (("HSTUConfig", HSTU), ("FuXiConfig", FUXI))
        for name, beside, changed in POINTWISE
    },
    **{
        f"{config}.{name}": ([base], [f"model.encoder.{name}={value}"])
        for config, base in (("PointwiseConfig", HSTU), ("FuXiEncoderConfig", FUXI))
        for name, value in (
            ("num_layers", 3), ("num_heads", 2), ("dropout", 0.5), ("nested", "true"),
        )
    },
    "PointwiseConfig.nested_from": (
        [HSTU, "model.encoder.nested=true"], ["model.encoder.nested_from=8"],
    ),
    "FuXiEncoderConfig.nested_from": (
        [FUXI, "model.encoder.nested=true"], ["model.encoder.nested_from=8"],
    ),
    "FuXiEncoderConfig.hidden_ratio": ([FUXI], ["model.encoder.hidden_ratio=2"]),
    **{
        f"ComiRecConfig.{name}": ([COMIREC, *beside], [changed])
        for name, beside, changed in POINTWISE[:-3]
        if name != "repeat_bias"
    },
    **{
        f"BERT4RecConfig.{name}": ([BERT4REC, *beside], [changed])
        for name, beside, changed in POINTWISE
        if name not in ("seen_negatives", "repeat_bias", "time", "gap_vectors", "encoder")
    },
    "BERT4RecConfig.encoder": ([BERT4REC], ["model.encoder={num_layers: 2}"]),
    "BERT4RecConfig.hidden_share": ([BERT4REC], ["model.hidden_share=0.6"]),
    "ComiRecConfig.num_interests": ([COMIREC], ["model.num_interests=2"]),
    "ComiRecConfig.encoder": ([COMIREC], ["model.encoder={hidden_ratio: 2}"]),
    "InterestsConfig.kind": ([COMIREC], ["model.encoder.kind=dynamic_routing"]),
    "InterestsConfig.hidden_ratio": ([COMIREC], ["model.encoder.hidden_ratio=2"]),
    "InterestsConfig.distances": ([COMIREC], ["model.encoder.distances=false"]),
    "InterestsConfig.iterations": ([CAPSULES], ["model.encoder.iterations=1"]),
    "InterestsConfig.nested": ([COMIREC], ["model.encoder.nested=false"]),
    "InterestsConfig.nested_from": ([COMIREC], ["model.encoder.nested_from=8"]),
    "FMRLRecConfig.granularities": ([PAPER], ["model.granularities.sizes=[8]"]),
    "FMRLRecConfig.encoder": ([PAPER], ["model.encoder={dropout: 0.1}"]),
    "LRUConfig.num_layers": ([PAPER], ["model.encoder.num_layers=2"]),
    "LRUConfig.hidden_ratio": ([PAPER], ["model.encoder.hidden_ratio=2"]),
    "LRUConfig.dropout": ([PAPER], ["model.encoder.dropout=0.1"]),
    "LRUConfig.recurrence_dropout": ([PAPER], ["model.encoder.recurrence_dropout=0.1"]),
    "LRUConfig.min_radius": ([PAPER], ["model.encoder.min_radius=0.05"]),
    "LRUConfig.max_radius": ([PAPER], ["model.encoder.max_radius=0.9"]),
    "LRUConfig.nested_from": ([PAPER], ["model.encoder.nested_from=8"]),
    "FMRLRecConfig.features": ([PAPER], ["model.features=[text, image]"]),
    "FMRLRecConfig.ids": ([PAPER], ["model.ids=true"]),
    "FMRLRecConfig.history_length": ([PAPER], ["model.history_length=3"]),
    "FMRLRecConfig.history_dropout": ([PAPER], ["model.history_dropout=0.5"]),
    "FMRLRecConfig.table": ([PAPER, "model.ids=true"], table("hashed")),
    "FMRLRecConfig.item_init_std": ([PAPER, "model.ids=true"], ["model.item_init_std=0.1"]),
    "TwoTowerConfig.granularities": ([TOWERS], ["model.granularities.sizes=[8]"]),
    "TwoTowerConfig.history_length": ([TOWERS], ["model.history_length=3"]),
    "TwoTowerConfig.table": ([TOWERS], table("hashed")),
    "TwoTowerConfig.user_table": ([TOWERS], ["model.user_table={name: hashed}"]),
    "TwoTowerConfig.shared_table": ([TOWERS], ["model.shared_table=true"]),
    "TwoTowerConfig.items": ([TOWERS], [CONTENT]),
    "TwoTowerConfig.init_std": ([TOWERS], ["model.init_std=0.1"]),
    "TwoTowerConfig.dropout": ([TOWERS], ["model.dropout=0.5"]),
    "TwoTowerConfig.sparse_gradients": ([TOWERS], ["model.sparse_gradients=true"]),
    **{
        f"{kind}.{option}": ([model], [change])
        for kind, model in PAIRS.items()
        for option, change in (
            ("granularities", "model.granularities.sizes=[8]"),
            ("history_length", "model.history_length=3"),
            ("dropout", "model.dropout=0.5"),
            ("fold_known", "model.fold_known=true"),
            ("popularity", "model.popularity=0.5"),
        )
    },
    "MFConfig.users": ([MF], ["model.users=both"]),
    "MFConfig.history_dropout": ([MF, "model.users=both"], ["model.history_dropout=0.1"]),
    "MFConfig.table": ([MF], table("hashed")),
    "MFConfig.user_table": ([MF], ["model.user_table={name: hashed}"]),
    "MFConfig.init": ([MF], ["model.init=normal"]),
    "MFConfig.init_std": ([MF], ["model.init_std=0.2"]),
    "MFConfig.sparse_gradients": ([MF], ["model.sparse_gradients=true"]),
    "LightGCNConfig.layers": ([LIGHT], ["model.layers=1"]),
    "LightGCNConfig.init": ([LIGHT], ["model.init=normal"]),
    "LightGCNConfig.init_std": ([LIGHT], ["model.init_std=0.2"]),
    "LTGNNConfig.restart": ([LINEAR], ["model.restart=0.6"]),
    "LTGNNConfig.init": ([LINEAR], ["model.init=normal"]),
    "LTGNNConfig.init_std": ([LINEAR], ["model.init_std=0.2"]),
    "UltraGCNConfig.neighbours": ([ULTRA], ["model.neighbours=2"]),
    "UltraGCNConfig.item_weight": ([ULTRA], ["model.item_weight=0"]),
    "UltraGCNConfig.init": ([ULTRA], ["model.init=normal"]),
    "UltraGCNConfig.init_std": ([ULTRA], ["model.init_std=0.2"]),
    "SVDGCNConfig.directions": ([SPECTRAL], ["model.directions=5"]),
    "SVDGCNConfig.strength": ([SPECTRAL], ["model.strength=1"]),
    "SVDGCNConfig.separate": ([SPECTRAL], ["model.separate=false"]),
    "SVDGCNConfig.rows": ([SPECTRAL], ["model.rows=true"]),
    **{
        f"FeatureTowersConfig.{option}": ([TELLING, *beside], [change])
        for option, beside, change in (
            ("granularities", (), "model.granularities.sizes=[8]"),
            ("history_length", (), "model.history_length=3"),
            ("dropout", (), "model.dropout=0.5"),
            ("columns", (), PEOPLE),
            ("history", (PEOPLE,), "model.history=false"),
            ("history_dropout", (), "model.history_dropout=0.1"),
            ("part_dropout", (PEOPLE,), "model.part_dropout=0.8"),
            ("table", (), "model.table={name: hashed}"),
            ("items", (), CONTENT),
            ("views", (CONTENT,), VIEWS),
            ("init_std", (), "model.init_std=0.2"),
            ("sparse_gradients", (), "model.sparse_gradients=true"),
        )
    },
    **{
        f"ColumnsConfig.{option}": ([TELLING, PEOPLE], [f"model.columns.{option}={value}"])
        for option, value in (
            ("categories", "[town]"), ("numbers", "[]"), ("min_count", 13),
            ("fusion", "projection"), ("column_dropout", 0.6), ("bins", 3),
        )
    },
    **{
        f"ViewsConfig.{option}": ([TELLING, CONTENT, VIEWS], [f"model.views.{option}={value}"])
        for option, value in (("weight", 2), ("temperature", 0.5), ("items", 7))
    },
    "RunConfig.loss": ([], ["loss={negatives: {uniform: 20}}"]),
    "SoftmaxConfig.distillation": ([SOFTMAX], ["loss.distillation=0.1"]),
    "SoftmaxConfig.focus": ([SOFTMAX], ["loss.focus=0.3"]),
    "SampledSoftmaxConfig.negatives": ([], ["loss.negatives={uniform: 20}"]),
    "SampledSoftmaxConfig.distillation": ([], ["loss.distillation=0.1"]),
    "SampledSoftmaxConfig.focus": ([], ["loss.focus=0"]),
    "GBCEConfig.negatives": ([GBCE], ["loss.negatives={uniform: 20}"]),
    "GBCEConfig.calibration": ([GBCE], ["loss.calibration=0.1"]),
    "BPRConfig.negatives": ([BPR], ["loss.negatives={uniform: 20}"]),
    "CosineContrastiveConfig.negatives": ([CCL], ["loss.negatives={uniform: 20}"]),
    "CosineContrastiveConfig.margin": ([CCL], ["loss.margin=0.1"]),
    "CosineContrastiveConfig.negative_weight": ([CCL], ["loss.negative_weight=9"]),
    "ConstrainedBCEConfig.negatives": ([ULTRA, BCE], ["loss.negatives={uniform: 20}"]),
    "ConstrainedBCEConfig.negative_weight": ([ULTRA, BCE], ["loss.negative_weight=9"]),
    "NegativesConfig.uniform": ([], ["loss.negatives.uniform=20"]),
    "NegativesConfig.popularity": ([], ["loss.negatives.popularity=5"]),
    "NegativesConfig.popularity_power": (
        ["loss.negatives.popularity=5"], ["loss.negatives.popularity_power=0.2"],
    ),
    "NegativesConfig.in_batch": ([], ["loss.negatives.in_batch=true"]),
    "NegativesConfig.logq": ([], ["loss.negatives.logq=false"]),
    "RunConfig.batching": ([], ["batching={}"]),
    "BatchingConfig.batch_tokens": ([], ["batching.batch_tokens=32"]),
    "BatchingConfig.bucket_batches": ([], ["batching.bucket_batches=1"]),
    "BatchingConfig.windows": ([], ["batching.windows=2"]),
    "RunConfig.trainer": ([], ["trainer={epochs: 1}"]),
    "TrainerConfig.epochs": ([], [TWO]),
    "TrainerConfig.histories": (
        ["trainer.epochs=4", "trainer.patience=9"],
        ["trainer.histories=1", "trainer.least_epochs=1"],
    ),
    "TrainerConfig.least_epochs": (
        ["trainer.epochs=4", "trainer.histories=1", "trainer.least_epochs=1"],
        ["trainer.least_epochs=2"],
    ),
    "TrainerConfig.patience": (
        ["trainer.optimizer.learning_rate=1e-12", "trainer.epochs=3"], ["trainer.patience=1"],
    ),
    "TrainerConfig.validate_every": ([TWO], ["trainer.validate_every=2"]),
    "TrainerConfig.metric": ([], ["trainer.metric=recall@5"]),
    "TrainerConfig.optimizer": ([], ["trainer.optimizer={learning_rate: 0.01}"]),
    "OptimizerConfig.learning_rate": ([], ["trainer.optimizer.learning_rate=0.01"]),
    "OptimizerConfig.weight_decay": ([], ["trainer.optimizer.weight_decay=1"]),
    "OptimizerConfig.table_weight_decay": ([], ["trainer.optimizer.table_weight_decay=1"]),
    "OptimizerConfig.betas": ([], ["trainer.optimizer.betas=[0.5, 0.9]"]),
    "OptimizerConfig.warmup_steps": ([], ["trainer.optimizer.warmup_steps=10"]),
    "OptimizerConfig.schedule": ([], ["trainer.optimizer.schedule=constant"]),
    "OptimizerConfig.clip_norm": ([TWO], ["trainer.optimizer.clip_norm=0.001"]),
    "TrainerConfig.seed": ([], ["trainer.seed=1"]),
    "TrainerConfig.precision": ([], ["trainer.precision=bf16"]),
    "ELSAConfig.granularities": ([ELSA], ["model.granularities.sizes=[2, 8]"]),
    "ELSAConfig.history_length": ([ELSA], ["model.history_length=3"]),
    "ELSAConfig.table": ([ELSA], table("hashed")),
    "ELSAConfig.init_std": ([ELSA], ["model.init_std=0.2"]),
    "IALSConfig.granularities": ([IALS], ["model.granularities.sizes=[2, 8]"]),
    "IALSConfig.history_length": ([IALS], ["model.history_length=3"]),
    "IALSConfig.alpha": ([IALS], ["model.alpha=0.3"]),
    "IALSConfig.ridge": ([IALS], ["model.ridge=0.03"]),
    "IALSConfig.exponent": ([IALS], ["model.exponent=0.3"]),
    "IALSConfig.user_power": ([IALS], ["model.user_power=0"]),
    "IALSConfig.item_power": ([IALS], ["model.item_power=0"]),
    "IALSConfig.steps": ([IALS], ["model.steps=1"]),
    "IALSConfig.user_steps": ([IALS], ["model.user_steps=1"]),
    "IALSConfig.init_std": ([IALS], ["model.init_std=0.5"]),
    "SpectralConfig.granularities": ([LOW_PASS], ["model.granularities.sizes=[4, 6]"]),
    "SpectralConfig.history_length": ([LOW_PASS], ["model.history_length=3"]),
    "SpectralConfig.user_power": ([LOW_PASS], ["model.user_power=0"]),
    "SpectralConfig.item_power": ([LOW_PASS], ["model.item_power=0"]),
    "SpectralConfig.popularity": ([LOW_PASS], ["model.popularity=0"]),
    "SpectralConfig.filter_power": ([LOW_PASS], ["model.filter_power=1"]),
    "SpectralConfig.passes": ([LOW_PASS], ["model.passes=1"]),
    "MiCROConfig.granularities": ([COUNTED], ["model.granularities.sizes=[4, 6]"]),
    "MiCROConfig.history_length": ([COUNTED], ["model.history_length=3"]),
    "MiCROConfig.half_life_days": ([COUNTED], ["model.half_life_days=0.001"]),
    "MiCROConfig.half_life_rows": ([COUNTED], ["model.half_life_rows=null"]),
    "MiCROConfig.lasting": ([COUNTED, "model.half_life_days=0.001"], ["model.lasting=0.9"]),
    "MiCROConfig.popularity": ([COUNTED], ["model.popularity=0"]),
    "MiCROConfig.background": ([COUNTED], ["model.background=5"]),
}  # fmt: skip
"""option -> what a run beside which it is changed has, and the change."""

STAYS: dict[str, tuple[list[str], list[str]]] = {
    "RunConfig.mapped": ([], ["mapped=true"]),  # the same histories, read from disk
    "TrainerConfig.checkpoint_seconds": ([], ["trainer.checkpoint_seconds=0"]),  # when, not what
    "TrainerConfig.keep_checkpoint": ([], ["trainer.keep_checkpoint=false"]),  # what is left
    "MappedConfig.folder": (table("mapped"), ["model.table.folder=."]),  # where rows lie
    "MappedConfig.resident_mib": (table("mapped"), ["model.table.resident_mib=1"]),  # memory
}
"""Options that are to change neither weights nor figures."""

ELSEWHERE = {
    "SplitRule.valid_share": "drawn when the data set is prepared: tests/data_prep",
    "SplitRule.valid_draw": "drawn when the data set is prepared: tests/data_prep",
    "SplitRule.seed": "drawn when the data set is prepared: tests/data_prep",
    **{
        f"BERT4RecConfig.{name}": "refused: tests/models/test_bert4rec.py"
        for name in ("seen_negatives", "repeat_bias", "time")
    },
    "BERT4RecConfig.gap_vectors": "needs time, which is refused",
    "ComiRecConfig.repeat_bias": "refused: tests/models/test_comirec.py",
    "ComiRecConfig.time": "refused: tests/models/test_comirec.py",
    "ComiRecConfig.gap_vectors": "needs time, which is refused",
    "RunConfig.data": "names the data set",
    "RunConfig.device": "where it is computed: tests/pretend",
    "RunConfig.logs": "who is told: tests/training/test_loggers.py",
    "LoggerConfig.name": "who is told: tests/training/test_loggers.py",
    "LoggerConfig.every": "how often is told: tests/training/test_loggers.py",
    "RunConfig.threads": "the order of sums, so the last bits alone",
    "ShardedConfig.sharding": "where rows lie: tests/distributed",
    "ShardedConfig.ranks": "where rows lie: tests/distributed",
    "ShardedConfig.optimizer": "needs processes: tests/distributed",
    "ShardedConfig.learning_rate": "needs processes: tests/distributed",
    "ShardedConfig.eps": "needs processes: tests/distributed",
    "RunConfig.update": "needs a parent run: tests/recipes/updating",
    "UpdateConfig.parent": "names the parent run",
    "UpdateConfig.weights": "the hash of the parent's weights: tests/recipes/updating",
    "UpdateConfig.replay": "needs a parent run: tests/recipes/updating",
    "UpdateConfig.neighbours": "needs a parent run: tests/recipes/updating",
    "UpdateConfig.hold": "needs a parent run: tests/recipes/updating",
    "UpdateConfig.anchor": "needs a parent run: tests/recipes/updating",
}
"""Options that no single-process run can show, and why."""


SECTIONS = {"RunConfig.model": MODELS, "RunConfig.loss": LOSSES}
"""option -> the parts that its name chooses from."""


def configs_of(key, field):
    """Config classes that may read a field."""
    if key not in SECTIONS:
        return configs_in(field.annotation)
    (section,) = field.metadata
    return {section.class_of(name) for name in SECTIONS[key].inside}


def configs_in(annotation):
    """Config classes named in a field's annotation."""
    if isinstance(annotation, type) and issubclass(annotation, StrictModel):
        return {annotation}
    parts = get_args(annotation)
    return set().union(*(configs_in(part) for part in parts)) if parts else set()


def options_of(config, found=None):
    """`Class.field` of every option in the tree; the tags of unions are none."""
    found = {} if found is None else found
    for name, field in config.model_fields.items():
        tag = get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1
        key = f"{config.__name__}.{name}"
        if not tag and key not in found:
            found[key] = field
            for inner in configs_of(key, field) - {NoneType}:
                options_of(inner, found)
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Random walks with repeats, and features of every kind."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(6, 12, size=40)
    items = rng.integers(0, NUM_ITEMS // 2, lengths.sum()) + rng.integers(0, 2, lengths.sum())
    items[:NUM_ITEMS] = np.arange(NUM_ITEMS)
    frame = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(40), lengths),
            "item_id": items,
            "timestamp": rng.permutation(lengths.sum()) + 1_000,
        }
    ).sort("timestamp")
    users = np.arange(40)
    people = pl.DataFrame(
        {"user_id": users, "club": [f"c{u % 3 + (u == 1)}" for u in users], "age": users * 1.5}
    ).with_columns(town=pl.Series(users % 7))
    folder = Dataset.from_frame(
        frame, time="timestamp", users=people, name="walks",
        out=tmp_path_factory.mktemp("options") / "data",
    ).folder  # fmt: skip
    origin, everything = FeatureOrigin(source="made by hand"), np.ones(NUM_ITEMS, bool)
    for name, dim in (("text", 6), ("image", 5)):
        write_vectors(folder, name, rng.normal(size=(NUM_ITEMS, dim)), everything, origin)
    places, codes = np.arange(NUM_ITEMS + 1), rng.integers(0, 3, NUM_ITEMS).astype(np.int32)
    write_categories(folder, "genres", codes, places, ["a", "b", "c"], origin)
    write_numbers(folder, "year", rng.normal(size=NUM_ITEMS), everything, origin)
    return folder


@pytest.fixture(scope="module")
def outcome(data, tmp_path_factory):
    """`outcome(overrides)`: a hash of a run's weights and of what its log tells."""
    known = {}

    def make(overrides):
        key = tuple(overrides)
        if key not in known:
            tree = apply_overrides({"data": str(data), **BASE}, list(overrides))
            run = train(RunConfig.model_validate(tree), out=tmp_path_factory.mktemp("run") / "run")
            lines = [
                {name: value for name, value in line.items() if name not in ("seconds", "time")}
                for line in read_lines(run / "log.jsonl")
            ]
            weights = hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()
            known[key] = weights, lines
        return known[key]

    return make


def test_every_option_of_the_config_is_accounted_for():
    assert set(options_of(RunConfig)) == {*MOVES, *STAYS, *ELSEWHERE}


@pytest.mark.parametrize("option", MOVES)
def test_an_option_moves_weights_or_figures(option, outcome):
    base, change = MOVES[option]
    assert outcome(base) != outcome([*base, *change])


@pytest.mark.parametrize("option", STAYS)
def test_an_option_of_time_or_place_moves_nothing(option, outcome):
    base, change = STAYS[option]
    assert outcome(base) == outcome([*base, *change])


SHARED = [TOWERS, "model.shared_table=true"]
REFUSED = {
    "seen_negatives with bpr": ["model.seen_negatives=true", BPR],
    "seen_negatives with gbce": ["model.seen_negatives=true", GBCE],
    "seen_negatives with softmax": ["model.seen_negatives=true", SOFTMAX],
    "seen_negatives with repeat_bias": ["model.seen_negatives=true", "model.repeat_bias=true"],
    "repeat_bias with softmax": ["model.repeat_bias=true", SOFTMAX],
    "distillation with bpr": ["loss.distillation=0.3", BPR],
    "distillation with gbce": ["loss.distillation=0.3", GBCE],
    "focus with bpr": ["loss.focus=0.3", BPR],
    "focus with gbce": ["loss.focus=0.3", GBCE],
    "calibration with softmax": ["loss.calibration=0.3"],
    "negatives with softmax": ["loss.name=softmax"],
    "sparse_gradients with softmax": ["model.sparse_gradients=true", SOFTMAX],
    "popularity_power alone": ["loss.negatives.popularity_power=0.3"],
    "quantile of leave-last-out": ["split.valid_quantile=0.3"],
    "table without ids": ["model.items={features: [text], ids: false}", *table("hashed")],
    "id_dropout without ids": ["model.items={features: [text], ids: false, id_dropout: 0.3}"],
    "item_init_std without ids": [PAPER, "model.item_init_std=0.3"],
    "table_weight_decay without ids": [PAPER, "trainer.optimizer.table_weight_decay=0.3"],
    "weight_decay without networks": [TOWERS, "trainer.optimizer.weight_decay=0.3"],
    "num_hashes of double": table("hashed", "num_hashes=3"),
    "seed of remainders": table("hashed", "method=quotient_remainder", "seed=3"),
    "max_codes of product": table("quantized", "max_codes=3"),
    "feature of a graph": table("clustered", "feature=text"),
    "expire_every without an end": table("dynamic", "expire_every=3"),
    "user_table beside a shared one": [*SHARED, "model.user_table={name: hashed}"],
    "nested_from alone": ["model.encoder.nested_from=8"],
    "iterations of attention": [COMIREC, "model.encoder.iterations=2"],
    "hidden_ratio of routing": [CAPSULES, "model.encoder.hidden_ratio=2"],
    "distances of a nested encoder": ["model.encoder.nested=true", "model.encoder.distances=3"],
    "history_dropout without histories": [MF, "model.history_dropout=0.1"],
    "user_table of users made of items": [
        MF, "model.users=history", "model.user_table={name: hashed}",
    ],
    "cosines without normalize": ["model.granularities.normalize=false", CCL],
    "constrained_bce without degrees": [MF, BCE],
    "history_dropout of users of columns": [
        TELLING, PEOPLE, "model.history=false", "model.history_dropout=0.1",
    ],
    "part_dropout of one part": [TELLING, "model.part_dropout=0.1"],
    "column_dropout of one column": [
        TELLING, "model.columns={categories: [club], column_dropout: 0.3}",
    ],
    "bins without numbers": [TELLING, "model.columns={categories: [club], bins: 3}"],
    "min_count without categories": [TELLING, "model.columns={numbers: [age], min_count: 3}"],
    "modality_dropout of one feature": [
        "model.items={features: [text], ids: false, modality_dropout: 0.3}",
    ],
    "views without features": [TELLING, VIEWS],
    "table_weight_decay without rows": [SPECTRAL, "trainer.optimizer.table_weight_decay=0.3"],
    "one sparse coordinate for two prefixes": table("sparse", "kept=1"),
    "sparse rows that keep everything": table("sparse", "kept=8"),
    "widths by steps": table("widths", "start=200", "ramp=1000"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_an_option_that_cannot_do_anything_is_refused_and_leaves_no_folder(what, data, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"data": str(data), **BASE}))
    with pytest.raises(ConfigError) as error:
        train(path, REFUSED[what], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert "{" not in str(error.value)  # what is wrong, and not the whole config


LEFT_OVER = {
    "loss.distillation": ["model.granularities.sizes=[8]", "loss.distillation=0.5"],
    "trainer.patience": ["fit_on=train+valid", "trainer.patience=2"],
    "loss.negatives.logq": [GBCE, "loss.negatives.logq=true"],
}


@pytest.fixture
def told(monkeypatch):
    """What remarks print."""
    console = Console(record=True, width=500)
    monkeypatch.setattr(remarks, "console", console)
    return console.export_text


@pytest.mark.parametrize("option", LEFT_OVER)
def test_an_option_that_an_override_leaves_without_use_is_told(option, data, tmp_path, told):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"data": str(data), **BASE}))
    train(path, LEFT_OVER[option], out=tmp_path / "run")
    line = next(line for line in told().splitlines() if line.startswith(option))
    assert "does nothing here" in line


def test_a_history_of_one_is_told_with_the_windows_that_would_use_all_rows(data, tmp_path, told):
    tree = apply_overrides({"data": str(data), **BASE}, ["model.history_length=1"])
    train(RunConfig.model_validate(tree), out=tmp_path / "run")
    text = told()
    assert "model.history_length 1 leaves the older ones out" in text
    windows = text.partition("batching.windows=")[2].split()[0]
    tree = apply_overrides(tree, [f"batching.windows={windows}"])
    train(RunConfig.model_validate(tree), out=tmp_path / "windows")
    assert "leaves the older ones out" not in told()


def test_a_run_that_an_older_version_took_can_still_be_read(data, tmp_path):
    tree = apply_overrides({"data": str(data), **BASE}, ["loss={name: softmax}"])
    run = train(RunConfig.model_validate(tree), out=tmp_path / "run")
    stored = yaml.safe_load((run / "config.yaml").read_text())
    old = {"negatives": {"uniform": 10, "in_batch": True}, "calibration": 0.3}
    stored["loss"] |= old  # options of every loss stood beside each other
    (run / "config.yaml").write_text(yaml.safe_dump(stored))
    assert load_config(run) == RunConfig.model_validate(tree)
    with pytest.raises(ConfigError, match="negatives is an option of losses that sample them"):
        read_config(run / "config.yaml")
