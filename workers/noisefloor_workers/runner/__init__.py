"""One child process for each shard, and who watches over it. Import-free: the supervisor has no torch."""
