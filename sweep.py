"""The command `eqvae-sweep` in a checkout; `twostage.cli.sweep` is what it does."""

from twostage.cli.sweep import main

if __name__ == "__main__":
    main()
