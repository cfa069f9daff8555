"""The command `eqvae-export` in a checkout; `twostage.cli.export` is what it does."""

from twostage.cli.export import main

if __name__ == "__main__":
    main()
