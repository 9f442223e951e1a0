"""Link predictors, their parts, and the weight net."""
