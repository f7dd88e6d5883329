#!/usr/bin/env bash
# Installs StarCraft II 4.10 for Linux (headless) and SMAC's maps; what is there already is left as it is.
#
#   SC2_PASSWORD=... docker/install_sc2.sh [FOLDER]
#
# FOLDER is SC2PATH or ~/StarCraftII if it is left out. The game's archive is encrypted: its password stands in
# Blizzard's "AI and Machine Learning License" (github.com/Blizzard/s2client-proto, section "Linux Packages"), and
# giving it means that you agree to that license. Nothing here gives it for you.
#
# SC2_ARCHIVE, MAPS_ARCHIVE   zip files that are at hand already, instead of downloads (4 GB and a few MB)
set -euo pipefail

VERSION=4.10
BUILD=75689 # of version 4.10.0
SC2_ADDRESS="https://blzdistsc2-a.akamaihd.net/Linux/SC2.$VERSION.zip"
MAPS_ADDRESS="https://github.com/oxwhirl/smac/releases/download/v0.1-beta1/SMAC_Maps.zip"

stop() {
    echo "install_sc2.sh: $*" >&2
    exit 1
}

download() { # ADDRESS FILE
    echo "Downloading $1"
    if command -v curl > /dev/null; then
        curl --fail --location --retry 3 --output "$2" "$1"
    elif command -v wget > /dev/null; then
        wget --tries=3 --output-document="$2" "$1"
    else
        stop "neither curl nor wget is there to download with"
    fi || stop "cannot download $1; get the file yourself, and name it with SC2_ARCHIVE or MAPS_ARCHIVE"
}

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || stop "the headless game runs on Linux on x86-64 only"
command -v unzip > /dev/null || stop "unzip is missing"

folder=${1:-${SC2PATH:-$HOME/StarCraftII}}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
scratch=$(mktemp -d "$folder/.install.XXXXXX") # beside the target: the last step of each part is a rename
trap 'rm -rf "$scratch"' EXIT

if [ -e "$folder/Versions" ]; then
    echo "The game is in $folder already"
else
    [ -n "${SC2_PASSWORD:-}" ] || stop "set SC2_PASSWORD to the password in Blizzard's license (see the top of this file)"
    archive=${SC2_ARCHIVE:-$scratch/game.zip}
    [ -n "${SC2_ARCHIVE:-}" ] || download "$SC2_ADDRESS" "$archive"
    unzip -q -P "$SC2_PASSWORD" "$archive" -d "$scratch/game" || stop "cannot unpack $archive: is the password right?"
    game=$scratch/game/StarCraftII
    [ -x "$game/Versions/Base$BUILD/SC2_x64" ] || stop "$archive does not hold version $VERSION (build $BUILD)"
    # Versions, which says that the game is there, comes last.
    find "$game" -mindepth 1 -maxdepth 1 ! -name Versions -exec cp -Rl {} "$folder" \;
    mv "$game/Versions" "$folder/Versions"
fi

if [ -e "$folder/Maps/SMAC_Maps" ]; then
    echo "SMAC's maps are in $folder already"
else
    archive=${MAPS_ARCHIVE:-$scratch/maps.zip}
    [ -n "${MAPS_ARCHIVE:-}" ] || download "$MAPS_ADDRESS" "$archive"
    unzip -q "$archive" -d "$scratch/maps" || stop "cannot unpack $archive"
    [ -d "$scratch/maps/SMAC_Maps" ] || stop "$archive holds no SMAC_Maps"
    mkdir -p "$folder/Maps"
    mv "$scratch/maps/SMAC_Maps" "$folder/Maps/SMAC_Maps"
fi

echo "StarCraft II $VERSION with $(find "$folder/Maps/SMAC_Maps" -name '*.SC2Map' | wc -l) SMAC maps is in $folder"
[ "$folder" = "$HOME/StarCraftII" ] || echo "Set SC2PATH=$folder for it to be found"
