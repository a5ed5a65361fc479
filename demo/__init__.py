"""The demonstration: synthetic speakers, a small Whisper of their speech, and a video site on loopback."""
