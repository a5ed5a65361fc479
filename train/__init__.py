"""Fine-tunes Whisper on a data set made by `corpus build`, measures it and exports it."""
