"""The directory: who is where and who has what, found in few steps in a mesh of any size. Spec: 14-directory.md."""
