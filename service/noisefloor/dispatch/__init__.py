"""How shards reach workers. The truth is always our own tables; an engine only carries the news."""
