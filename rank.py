"""The command `eqvae-rank` in a checkout; `twostage.cli.rank` is what it does."""

from twostage.cli.rank import main

if __name__ == "__main__":
    main()
