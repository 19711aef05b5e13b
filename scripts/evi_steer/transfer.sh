#!/usr/bin/env bash
exec bash "$(dirname "$0")/../run.sh" EviSteer transfer "$@" # learns on one data set, tests on another with the class names of that one: SOURCE TARGET SHOTS SEED [KEY VALUE ...]
