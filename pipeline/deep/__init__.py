"""The map as the last layer of a network: encoders, views, deep rounds, and how prototypes are tuned."""
