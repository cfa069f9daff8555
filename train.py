"""The command `eqvae-train` in a checkout; `twostage.cli.train` is what it does."""

from twostage.cli.train import main

if __name__ == "__main__":
    main()
