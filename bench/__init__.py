"""Speed, measured as ratios: the agent beside an honest script, on the same farm, in one run."""
