"""From documents to packed batches: token shards on the disk and the plan that orders them."""

from weldlm.data.plan import PackingPlan
from weldlm.data.shards import ShardWriter, TokenShards, create_shards, write_shards

__all__ = ["PackingPlan", "ShardWriter", "TokenShards", "create_shards", "write_shards"]
