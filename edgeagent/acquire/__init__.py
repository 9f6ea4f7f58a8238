"""From a driver's frames to records: connect, identify, poll, back off, condition, note gaps."""
