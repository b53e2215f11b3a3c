#!/usr/bin/env perl
# Listens to a connection of siod, asks its server and answers it: perl attach.pl [CONNECTION]
#
# Perl 5.14 or newer and its core modules. README.md says what happens here, step by step.

use strict;
use warnings;
use IO::Handle;
use IO::Socket::UNIX;
use JSON::PP;

my $json = JSON::PP->new->utf8->canonical;
my $own  = $ENV{XDG_RUNTIME_DIR} && $> != 0 ? $ENV{XDG_RUNTIME_DIR} : '/run/siod';
my $path = $ENV{SIOD_SOCKET} || "$own/siod.sock";
utf8::decode(my $connection = shift // 'chat');

# What to go on with after a loss: the run of siod, and the last number heard in it.
my ($stream, $seq) = ('', 0);

sub ask {
    my ($siod, $method, $params, @id) = @_;
    local $SIG{PIPE} = 'IGNORE';    # If siod is gone, the next read says so.
    print $siod $json->encode({ @id, method => $method, params => { connection => $connection, %$params } }), "\n";
}

my %answered = (
    1 => sub {
        my ($siod, $result) = @_;
        ask($siod, emit => { event => 'add', args => [2, 3], ack => JSON::PP::true, timeout => 5000 }, id => 2)
            if $stream eq '';
        ($stream, $seq) = ($result->{stream}, 0) if $result->{stream} ne $stream;
    },
    2 => sub { print 'answer ', $json->encode($_[1]{args}), "\n" },
);

my %heard = (
    event => sub {
        my ($siod, $params) = @_;
        my $missed = $params->{seq} - $seq - 1;
        warn "missed $missed before $params->{seq}\n" if $missed > 0;
        $seq = $params->{seq};
        utf8::encode(my $event = $params->{event});
        print join(' ', $seq, $event, map { $json->encode($_) } grep { defined } $params->{args}), "\n";
        ask($siod, ack => { ack => $params->{ack}, args => ['yes'] }) if exists $params->{ack};
    },
    goodbye => sub { warn "siod says goodbye: $_[1]{reason}\n" },
);
$heard{lifecycle} = $heard{event};

sub attend {
    my ($siod) = @_;
    ask($siod, subscribe => { after => { stream => $stream, seq => $seq } }, id => 1);
    while (my $line = <$siod>) {
        last if $line !~ /\n\z/;    # The end has cut it off; it will come again.
        my $message = $json->decode($line);
        my $id      = $message->{id} // '';
        if (my $error = $message->{error}) {
            utf8::encode(my $why = $error->{message});
            warn "$why\n";
            return if $id eq '1';
        }
        elsif (my $answer = $answered{$id}) { $answer->($siod, $message->{result}) }
        elsif (my $hear = $heard{ $message->{method} // '' }) { $hear->($siod, $message->{params}) }
    }
}

STDOUT->autoflush;
while (1) {
    my $siod = IO::Socket::UNIX->new(Peer => $path);
    attend($siod) if $siod;
    next if $stream ne '' && select(undef, undef, undef, 0.5) >= 0;
    die "no siod at $path ($!): start `siod run`, or set SIOD_SOCKET\n" if !$siod;
    exit 1;
}
