"""The plots of a report as inline SVG, each with a title and a description, its looks left to a style sheet."""
