"""Where negatives come from: proposals draw candidates, selectors pick among them."""
