# Sourced by scripts whose settings are all variables: a word would be ignored, and --help begin hours of work.
if [ "$#" -gt 0 ]; then
    case "$1" in -h | --help) wanted=1 ;; *) wanted=2 ;; esac
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&"$wanted" # the comment at the head of the script
    [ "$wanted" = 1 ] && exit
    echo "error: $(basename -- "$0") takes no words, and this is one: $1 (settings are variables: NAME=value bash $(basename -- "$0"))" >&2
    exit 2
fi
