#!/usr/bin/env php
<?php
// Listens to a connection of siod, asks its server and answers it: php attach.php [CONNECTION]
//
// PHP 8.0 or newer and nothing beside it. README.md says what happens here, step by step.

declare(strict_types=1);

const JSON = JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE | JSON_PRESERVE_ZERO_FRACTION;

function note(string $words): void
{
    fwrite(STDERR, "$words\n");
}

/** Puts the run of siod, and the last number heard in it, into $stream and $seq, as one attachment brings them. */
function attend($siod, string $connection, string &$stream, int &$seq): void
{
    $ask = function (string $method, array $params, array $id = []) use ($siod, $connection): void {
        $request = $id + ['method' => $method, 'params' => ['connection' => $connection] + $params];
        @fwrite($siod, json_encode($request, JSON) . "\n"); // If siod is gone, the next read says so.
    };
    $ask('subscribe', ['after' => ['stream' => $stream, 'seq' => $seq]], ['id' => 1]);
    // A line that the end has cut off is none; it will come again.
    while (str_ends_with($line = (string) fgets($siod), "\n")) {
        $message = json_decode($line, flags: JSON);
        $params = $message->params ?? null;
        if (isset($message->error)) {
            note($message->error->message);
            if ($message->id === 1) {
                return;
            }
            continue;
        }
        switch ($message->id ?? $message->method ?? null) {
            case 1:
                if ($stream === '') {
                    $ask('emit', ['event' => 'add', 'args' => [2, 3], 'ack' => true, 'timeout' => 5000], ['id' => 2]);
                }
                [$seq, $stream] = [$stream === $message->result->stream ? $seq : 0, $message->result->stream];
                break;
            case 2:
                echo 'answer ', json_encode($message->result->args, JSON), "\n";
                break;
            case 'event':
            case 'lifecycle':
                if ($params->seq > $seq + 1) {
                    note('missed ' . ($params->seq - $seq - 1) . " before $params->seq");
                }
                echo "$params->seq $params->event", isset($params->args) ? ' ' . json_encode($params->args, JSON) : '', "\n";
                $seq = $params->seq;
                if (isset($params->ack)) {
                    $ask('ack', ['ack' => $params->ack, 'args' => ['yes']]);
                }
                break;
            case 'goodbye':
                note("siod says goodbye: $params->reason");
        }
    }
}

ini_set('default_socket_timeout', '-1'); // A quiet server is no reason to go.
$own = posix_getuid() !== 0 ? getenv('XDG_RUNTIME_DIR') : '';
$path = getenv('SIOD_SOCKET') ?: ($own ?: '/run/siod') . '/siod.sock';
[$stream, $seq] = ['', 0];
do {
    $siod = @stream_socket_client("unix://$path", $code, $reason);
    if ($siod !== false) {
        attend($siod, $argv[1] ?? 'chat', $stream, $seq);
        fclose($siod);
    } elseif ($stream === '') {
        note("no siod at $path ($reason): start `siod run`, or set SIOD_SOCKET");
    }
} while ($stream !== '' && usleep(500_000) === null);
exit(1);
