"""Protocol drivers and the profiles that ship with them."""
