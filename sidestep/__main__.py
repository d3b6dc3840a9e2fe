"""`python -m sidestep`, which is also how torchrun starts it."""

from sidestep.cli.main import main

if __name__ == "__main__":
    main()
