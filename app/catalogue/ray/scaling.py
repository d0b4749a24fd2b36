"""How many replicas: by seconds of audio that wait, as the autoscaler for Kubernetes does it. Runs in Ray's controller."""

from typing import Any

QUEUE_SECONDS = "queue_audio_seconds"
QUEUE_SECONDS_PER_REPLICA = 300.0  # 30 windows of 10 s at .1 s each: a song waits 3 s for its turn


def by_queue_seconds(context: Any) -> tuple[float, dict[str, Any]]:
    """Replicas wanted, the larger of two: by seconds of audio that wait, and, as names never do, by requests in progress."""
    waiting = (context.aggregated_metrics or {}).get(QUEUE_SECONDS, {})
    by_audio = sum(waiting.values()) / QUEUE_SECONDS_PER_REPLICA
    by_requests = context.total_num_requests / context.config.get_target_ongoing_requests()
    return max(by_audio, by_requests, context.capacity_adjusted_min_replicas), {}
