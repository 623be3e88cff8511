"""From a video to uint8 frames: exact access, frame rules, resizes, a store, supervised workers.

Nothing here imports torch: a decoding process starts in half a second.
"""
