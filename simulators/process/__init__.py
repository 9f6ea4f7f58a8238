"""Physics and biology as pure `step(dt_s)` models.

No I/O and no clock: time is what the caller passes in. Randomness serves sensor noise only and
comes from the generator that the caller passes in, so the same seed and the same steps give the
same values. A model's settings are a frozen dataclass with the model's name and `Settings`.
"""
