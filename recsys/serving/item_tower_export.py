"""Export of a trained item tower into a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from recsys.arrays import Float32
from recsys.retrieval.bundle.manifest import BundleManifest
from recsys.retrieval.bundle.writing import Addition
from recsys.serving.item_tower import ITEM_TOWER, NewItemTower
from recsys.towers.fusion import GatedSum
from recsys.towers.items import ItemTower
from recsys.towers.modalities import CategoryModality, VectorModality


def new_item_tower(tower: ItemTower) -> NewItemTower:
    """The content side of a trained tower."""
    arrays = {"missing": _array(tower.fusion.missing)}
    if isinstance(tower.fusion, GatedSum):
        arrays |= {"gate": _array(tower.fusion.gate), "bias": _array(tower.fusion.bias)}
    else:
        arrays["projection"] = _array(tower.fusion.weight * tower.fusion.mask)
    kinds, categories = {}, {}
    for name, part in tower.modalities.items():
        arrays[f"{name}/weight"] = _array(part.weight)
        if isinstance(part, VectorModality):
            kinds[name] = "vectors"
            arrays[f"{name}/centre"] = _array(part.centre)
            arrays[f"{name}/whitening"] = _array(part.whitening)
        elif isinstance(part, CategoryModality):
            kinds[name], categories[name] = "categories", part.feature.names
        else:
            kinds[name], arrays[f"{name}/edges"] = "numbers", _array(part.edges)
    return NewItemTower(tower.names, kinds, categories, arrays)


def _array(tensor: Any) -> Float32:
    array: Float32 = np.ascontiguousarray(tensor.detach().float().cpu().numpy())
    return array


def item_tower_of(tower: ItemTower) -> Addition:
    """Adds what turns features of new items into vectors to a bundle."""

    def write(folder: Path, _: BundleManifest) -> dict[str, Any]:
        part = new_item_tower(tower)
        told = {"names": part.names, "kinds": part.kinds, "categories": part.categories}
        save_file(part.arrays, folder / ITEM_TOWER, {"recsys": json.dumps(told)})
        return {}

    return write
