#!/usr/bin/env bash
# Listens to a connection of siod, asks its server and answers it: attach.sh [CONNECTION]
#
# Bash 4.3 or newer, and socat or OpenBSD's netcat for the socket. Bash has no JSON; the patterns below rely on what
# docs/api.md promises: one message a line, no white space between tokens, members in the order that is shown there.
# Text is printed with its JSON escapes. README.md says what happens here, step by step.
LC_ALL=C

own=/run/siod
[[ ${XDG_RUNTIME_DIR:-} && $EUID -ne 0 ]] && own=$XDG_RUNTIME_DIR
path=${SIOD_SOCKET:-$own/siod.sock}
name=${1:-chat} name=${name//\\/\\\\} name=\"${name//\"/\\\"}\"

begin='^\{"jsonrpc":"2\.0",' text='"(([^"\\]|\\.)*)"'
subscribed=$begin'"id":1,"result":\{"subscription":[0-9]+,"stream":'$text
answered=$begin'"id":2,"result":\{"args":(\[.*\])'
refused=$begin'"id":([^,]+),"error":\{"code":-?[0-9]+,"message":'$text
numbered=$begin'"method":"(event|lifecycle)","params":\{"connection":'$text',"seq":([0-9]+),"event":'$text'(.*)\}\}$'
goodbye=$begin'"method":"goodbye","params":\{"reason":'$text
# Behind the last bracket of an event's line there is nothing of the server's.
arguments='^,"args":(\[.*\])([^]]*)$' question='^(,.*)?,"ack":([0-9]+)'

# What to go on with after a loss: the run of siod, and the last number heard in it.
stream='' seq=0

note() { printf '%s\n' "$*" >&2; }

ask() { printf '{%s"method":"%s","params":{"connection":%s,%s}}\n' "$1" "$2" "$name" "$3" >&"${SIOD[1]}"; }

# Carries one attachment. When siod is gone, it stays for what may still be written, which then nobody reads.
bridge() {
    if command -v socat >/dev/null; then socat - "UNIX-CONNECT:$path"; else nc -q 0 -U "$path"; fi
    exec >/dev/null
    cat
}

hear() {
    if [[ $1 =~ $numbered ]]; then
        local now=${BASH_REMATCH[4]} rest=${BASH_REMATCH[7]} line="${BASH_REMATCH[4]} ${BASH_REMATCH[5]}" ack=''
        if [[ $rest =~ $arguments ]]; then
            line+=" ${BASH_REMATCH[1]}"
            [[ ${BASH_REMATCH[2]} =~ $question ]] && ack=${BASH_REMATCH[2]}
        fi
        ((now > seq + 1)) && note "missed $((now - seq - 1)) before $now"
        printf '%s\n' "$line"
        seq=$now
        [[ $ack ]] && ask '' ack "\"ack\":$ack,\"args\":[\"yes\"]"
    elif [[ $1 =~ $subscribed ]]; then
        [[ $stream ]] || ask '"id":2,' emit '"event":"add","args":[2,3],"ack":true,"timeout":5000'
        [[ ${BASH_REMATCH[1]} == "$stream" ]] || seq=0
        stream=${BASH_REMATCH[1]}
    elif [[ $1 =~ $answered ]]; then
        printf 'answer %s\n' "${BASH_REMATCH[1]}"
    elif [[ $1 =~ $refused ]]; then
        note "${BASH_REMATCH[2]//\\\"/\"}"
        [[ ${BASH_REMATCH[1]} == 1 ]] && return 1
    elif [[ $1 =~ $goodbye ]]; then
        note "siod says goodbye: ${BASH_REMATCH[1]}"
    fi
    return 0
}

while true; do
    coproc SIOD { bridge 2>/dev/null; }
    ask '"id":1,' subscribe "\"after\":{\"stream\":\"$stream\",\"seq\":$seq}"
    heard=
    # A line that the end has cut off is none; it will come again.
    while IFS= read -r line <&"${SIOD[0]}"; do
        heard=yes
        hear "$line" || break
    done
    exec {SIOD[0]}<&- {SIOD[1]}>&-
    wait
    [[ $stream || $heard ]] || note "no siod at $path: start \`siod run\`, or set SIOD_SOCKET"
    [[ $stream ]] || exit 1
    sleep 0.5
done
