"""A policy's text, read into tables with lines and problems."""
