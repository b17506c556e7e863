"""`python -m commonprior` is `commonprior`."""

from commonprior.cli import main

if __name__ == "__main__":
    main()
