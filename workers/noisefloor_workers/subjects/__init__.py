"""Where models and their inputs come from. Nothing is imported here: pick the module you need."""
