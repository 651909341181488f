"""Export of trained towers over features into a bundle: of items, and of users' columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from recsys.arrays import Arrays, Float32
from recsys.devices import reading
from recsys.models import Model
from recsys.retrieval.bundle.manifest import BundleManifest
from recsys.retrieval.bundle.writing import Addition
from recsys.serving.item_tower import ITEM_TOWER, NewItemTower
from recsys.serving.user_columns import NOBODY, USER_COLUMNS, ColumnUsers
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
        _save(new_item_tower(tower), folder / ITEM_TOWER)
        return {}

    return write


def column_users_of(model: Model) -> ColumnUsers | None:
    """What a model makes of columns of users; None: it reads none."""
    with reading(model):
        found = model.column_users()
        return None if found is None else ColumnUsers(new_item_tower(found[0]), _array(found[1]))


def user_columns_of(columns: ColumnUsers) -> Addition:
    """Adds what turns columns of users into parts of their vectors to a bundle."""

    def write(folder: Path, _: BundleManifest) -> dict[str, Any]:
        _save(columns.tower, folder / USER_COLUMNS, {NOBODY: columns.nobody})
        return {}

    return write


def _save(part: NewItemTower, path: Path, more: Arrays | None = None) -> None:
    told = {"names": part.names, "kinds": part.kinds, "categories": part.categories}
    arrays = part.arrays if more is None else {**part.arrays, **more}
    save_file(arrays, path, {"recsys": json.dumps(told)})
