"""The directory's shell: checks what comes in, signs what goes out, reaches whom the machine wants to ask."""
