"""What the agent talks about: frames, schemas, quality, records, profiles, settings. No I/O."""
