"""What recipes train, one file each: `task: viclip_pretrain` is `viclip_pretrain.py`."""
