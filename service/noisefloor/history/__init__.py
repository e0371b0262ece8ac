"""What is said of measurements over time: order, samples, change points, comparisons. Pure."""
