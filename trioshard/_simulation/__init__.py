"""The simulation: thousands of seeded histories of the real shard, each judged from both ends."""
