"""Documents as token shards on the disk, and the plan that orders them for training (`plan`)."""

from weldlm.data.shards import ShardWriter, TokenShards, create_shards, write_shards

__all__ = ["ShardWriter", "TokenShards", "create_shards", "write_shards"]
