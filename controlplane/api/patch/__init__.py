"""The patches of the API: JSON patch, JSON merge patch, strategic merge patch. All pure; none changes its arguments."""

from podnet.controlplane.api.patch.json_patch import apply_json_patch
from podnet.controlplane.api.patch.merge_patch import apply_merge_patch
from podnet.controlplane.api.patch.strategic_merge import apply_strategic_merge_patch

__all__ = ["apply_json_patch", "apply_merge_patch", "apply_strategic_merge_patch"]
