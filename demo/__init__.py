"""The demonstration: synthetic speakers, a small Whisper for them, a video site on loopback."""
