"""An experiment trained again: on fewer patients, redrawn ones, exchanged labels."""
