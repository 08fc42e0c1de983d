"""Trained models at work: opened again, logged and exported, batches predicted on Ray Data."""
