"""Fine-tunes Whisper on a dataset made by `corpus build`, measures it and exports it."""
