"""The command `eqvae-evaluate` in a checkout; `twostage.cli.evaluate` is what it does."""

from twostage.cli.evaluate import main

if __name__ == "__main__":
    main()
