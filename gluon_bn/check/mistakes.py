"""The mistakes that have a name, and the question that leads out of each."""
from __future__ import annotations

# Facts that the chapter's own function and layer share: right, with a consequence that one should know.
NOTES = {
    'StatsKeptInGraph':
        'Each iteration then keeps the graphs of all earlier ones alive, and memory grows. No value is '
        'wrong. What cuts an array from the autograd graph?',
    'StatsNotSaved':
        'save_parameters writes Parameters and nothing else. What are your moving averages, and how does one '
        'declare a Parameter that takes no gradient?',
    'VarInitZero':
        'An untrained layer in prediction mode then divides by sqrt(eps): it multiplies by about 316. The '
        'chapter starts there too; its later editions and Gluon start at another value. Which would leave X '
        'as it is?',
}

MISTAKES = {
    # Y
    'WrongAxis':
        'Which numbers share one mean? Count them: how many means does a batch of shape (m, d) have, and '
        'how many does one of shape (m, c, h, w) have?',
    'UnbiasedBatchVar':
        'By what does the chapter divide the sum of squares, when the minibatch is not a sample but all that '
        'is to be standardized?',
    'EpsOutsideSqrt':
        'eps keeps something away from 0: the variance or its root? Look where the root ends in the formula.',
    'NoEps': 'What becomes of a unit whose values are all the same? Which part of the formula prevents division by 0?',
    'OtherEps': 'The constant in your formula is not the given eps. Where does yours come from?',
    'MissingSqrt': 'If X is in metres, what is the variance in? What must you divide by so that the unit cancels?',
    'MissingGamma': 'How can the layer give its output a spread other than 1? Which learned parameter never reaches Y?',
    'MissingBeta': 'How can the layer give its output a mean other than 0? Which learned parameter never reaches Y?',
    'BetaScaledByGamma':
        'By how much should Y move if beta grows by 1, whatever gamma is? Mind the order of scale and shift.',
    'TrainsOnMovingStats':
        'Whose mean and variance normalize X while the network learns: this minibatch\'s or the remembered '
        'ones?',
    'BatchStatsAtPredict': 'A prediction for one example alone must be possible. Which statistics are there for it?',
    'IsRecordingNotTraining':
        'Recording and training are two switches. Think of autograd.record(train_mode=False): which of the '
        'two tells whether the network learns?',
    'VarianceCancellation':
        'Mathematically your variance is right. What does float32 leave of the difference of two numbers near '
        '10^9? What could be subtracted before anything is squared?',
    'ExchangedArguments':
        'A call by position depends on the order. Compare yours with the first line of the function that it calls: '
        'are all names in the same place?',
    'WrongFormula':
        'Your code computes the formula shown. Compare it with that of the exercise, term by term: which term '
        'differs?',
    'WrongCount':
        'By how many numbers must a sum be divided to make it a mean? Count those of one channel, for (m, d) and for '
        '(m, c, h, w).',
    'WrongMean': 'A mean is a sum, divided by the count of its numbers. Which of the two differs in yours?',
    'WrongVariance':
        'A variance is the mean of squared distances from the mean. Which of these three words is missing in yours?',
    'WrongOutput':
        'This is none of the usual mistakes. Compute this one number by hand, step by step, beside your code.',
    # moving statistics
    'MomentumSwapped': 'Which of the two values does momentum weigh: the one remembered or the one just seen?',
    'OverwritesRunning': 'The average should remember all batches. What does yours know of the batch before the last?',
    'NeverUpdates': 'Does what you return, or store, after a training batch depend on that batch at all?',
    'OtherMomentum': 'The weight in your average is not the given momentum. Where does yours come from?',
    'RunningStdNotVar': 'What is averaged here: the variance or its root? What does the prediction do with it later?',
    'UnbiasedRunningVar':
        'Yours is a different convention, not an error in itself: the paper\'s prediction and PyTorch average the '
        'variance divided by m - 1. The chapter and Gluon average the variance that normalized the batch. Which does '
        'yours average?',
    'UpdatesAtPredict': 'A prediction should not teach the layer anything. When may the moving averages move?',
    'WrongAverage':
        'Your code uses the rule shown. Compare it with that of the exercise: does a weight differ, or the quantity '
        'that is averaged?',
    'WrongStatistics': 'Write down the rule for the new average, put in these numbers, and compare term by term.',
    # gradients
    'StatsDetachedInForward':
        'The mean and the variance depend on X. Does the gradient include this, or was it cut on the way?',
    'NoGradient': 'Which line leaves MXNet\'s arrays, or pauses recording, so that autograd loses track?',
    'WrongGradient':
        'Y is right but its gradient is not: is everything on the way from X to Y an operation that autograd '
        'sees?',
    'WrongGradientGamma':
        'How does Y change if one gamma grows a little? Sum that, times dY, over every number that this gamma '
        'scales.',
    'WrongGradientBeta':
        'How does Y change if one beta grows a little? Sum that, times dY, over every number that this beta '
        'shifts.',
    'WrongGradientThroughMean':
        'X reaches Y in three ways: directly, through the mean and through the variance. Look at the term '
        'through the mean: is it there? Are its sign and its factor right?',
    'WrongGradientThroughVariance':
        'X reaches Y in three ways: directly, through the mean and through the variance. Look at the term '
        'through the variance: is it there? Are its sign and its factor right?',
    'WrongGradientFactorM':
        'A mean of m numbers: by how much does it move when one of them grows by 1? And what is m, when a '
        'channel has h x w numbers for each example?',
    'WrongGradientScale':
        'All parts of dX are off by one factor. Which quantities stand between X_hat and Y, and between X and '
        'X_hat?',
    'WrongGradientX':
        'This is none of the usual mistakes. Take the worked example and check dX against a finite '
        'difference.',
    'UsesAutograd':
        'Autograd would be right, but the exercise is to do its work by hand, and to check the result against it '
        'outside your function. How does Y change when one X grows a little?',
    # the layer
    'NotABlock': 'What must a class inherit from, so that Gluon can train it?',
    'NotLearned': 'gamma and beta are learned: what does Gluon need to know of an array before a Trainer can move it?',
    'NoMovingStats': 'Where does the layer keep its averages between two calls? Name them moving_mean and moving_var.',
    'WrongStart': 'What should the layer do to a standardized X before it has learned anything?',
    'StatsTrainable':
        'The moving averages are measured, not learned. What tells Gluon to give a Parameter no gradient?',
    'DeviceNotCopied': 'X is on another device. Where are the moving averages now, and what moves them there?',
    'WrongName': 'The check finds an array by its name, and so does loading. Which of your arrays is this one?',
    'NoSuperInit': 'A Block sets itself up before it can hold Parameters. Which line belongs first in your __init__?',
    'ParameterNotArray': 'A Parameter is a box with an array in it. Which of its methods gives the array?',
    'ReplacesParameter':
        'Keep the Parameter itself, so that it can be saved. Which of its methods puts a new '
        'array into it?',
    # an experiment
    'OneSeed':
        'One number cannot tell an effect from chance. Which seeds should you use, and where is your loop over them?',
    'NotMeasured':
        'Which training gave this number? Was the number overwritten, or did the net change after it was measured? Run '
        'the cell again.',
    'OtherNet': 'Print the net. Which block is missing or extra, or has the wrong setting?',
    'OtherSetting': 'If two things differ, which of them made the difference? Change only one.',
    'OtherStart':
        'Two nets can only be compared if they start from the same weights and see the same minibatches. Which line '
        'of your code draws other random numbers?',
    'TooLow': 'Print the loss. Does it fall too slowly, or not at all? What can you choose to change that?',
    # the code as such
    'NotWritten':
        'Nothing is wrong: it waits for your code. Write a first line, print the shape of what it gives, and '
        'run this check as often as you like.',
    'MutatesInput':
        'The caller still needs these arrays. Where does your code write into one instead of making a new '
        'one?',
    'WritesWhileRecording':
        'While autograd records, no array that takes part may be changed, neither piece by piece nor in '
        'place. Which one expression makes the whole new array?',
    'RemembersBetweenCalls':
        'All that the function knows should come in as an argument, and all that it remembers go out in the '
        'return. What does yours keep elsewhere, or draw at random?',
    'ReturnsNone': 'Does every path through your code end in a return?',
    'WrongReturn':
        'Compare what you return with what the exercise asks for: how many values, in which order, of which '
        'kind?',
    'WrongShape': 'Print the shape of each step. Which axis is missing or new, and which shape would broadcast over X?',
    'WrongArguments': 'Leave the first line of each function as the exercise has it: all the names, in their order.',
    'CallsItself': 'Your code calls itself, and that call does so again. Which function did you mean to call there?',
    'NotInMXNet':
        'NumPy offers this; arrays of mx.nd do not. Which method of the array, or function of nd, '
        'does the same? If there is none, build it from the formula.',
    'RaisesException':
        'The message tells what went wrong, and the line where. Make a small X in a cell of your own and run '
        'your lines on it one by one, up to this one.',
    'TooSlow': 'Which loop does not end? Or what takes so long, on a batch of a few numbers?',
    'CallsExit': 'Return from the function instead of ending the program: remove exit() or sys.exit().',
}

HINTS = {**NOTES, **MISTAKES}
