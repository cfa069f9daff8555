"""The command `eqvae-compare` in a checkout; `twostage.cli.compare` is what it does."""

from twostage.cli.compare import main

if __name__ == "__main__":
    main()
