"""Results and ground truth -> knowledge."""
